//! NMIs into a real kernel, which runs on [`pc`]: schedules, sweeps and verdicts.
//!
//! The kernel is not the lab's, so the oracle looks from the outside: the kernel's own
//! count of NMIs, the interrupted context, the console, and a user program that
//! computes a checksum and lives.

pub mod any;
mod arrival;
mod baseline;
mod bench;
pub mod cache;
mod campaign;
mod case;
mod cases;
pub mod check;
mod costs;
mod detour;
mod ended;
mod entry;
mod error;
mod expect;
pub mod explore;
mod fault_by;
mod footprint;
mod header;
mod judge;
mod kernel;
mod kind;
mod lab;
pub mod linux;
mod path;
pub mod pc;
mod plan;
mod reference;
mod replay;
mod results;
mod row;
mod running;
mod site;
mod sweep;
mod sweeps;
mod table;
pub mod xen;

pub use arrival::Start;
pub use baseline::Baseline;
pub use bench::{Bench, bench};
pub use cache::kernel_cache;
pub use campaign::{Campaign, CampaignRun, Judged, Part};
pub use case::{Outcome, Run as Walk, Step};
pub use cases::Alone;
pub use costs::{Costs, Stretch, costs};
pub use ended::{Ended, run_to_end};
pub use entry::{Boundary, EntryPath};
pub use error::LabError;
pub use expect::Expected;
pub use fault_by::FaultBy;
pub use header::{CellHeader, Group, Header, Unit};
pub use kernel::{Alive, Holds, Kernel, Vital};
pub use kind::{Case, Kind};
pub use lab::Lab;
pub use path::{Path, Visit};
pub use plan::Request;
pub use replay::{quoted, replay};
pub use results::{BaselineInfo, Document, Results, RunJudgement, SiteError, SweepInfo};
pub use row::{CaseRow, KernelInfo};
pub use running::Running;
pub use site::{Site, resolve};
pub use sweep::{Row, Sweep, SweepStats};
pub use sweeps::{Open, SweepError, run as sweep};
pub use table::Table;
