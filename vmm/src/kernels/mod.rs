//! NMIs into a real kernel, which runs on [`pc`]: schedules, sweeps and verdicts.
//!
//! The kernel is not the lab's, so the oracle looks from the outside: the kernel's own
//! count of NMIs, the interrupted context, the console, and a user program that
//! computes a checksum and lives.

mod arrival;
mod baseline;
mod bench;
pub mod cache;
mod campaign;
mod case;
pub mod check;
mod entry;
mod error;
mod expect;
pub mod explore;
mod footprint;
mod judge;
mod kernel;
mod lab;
pub mod linux;
mod path;
pub mod pc;
mod reference;
mod results;
mod running;
mod site;
mod sweep;
mod table;

pub use arrival::Start;
pub use baseline::Baseline;
pub use bench::{Bench, bench};
pub use cache::kernel_cache;
pub use campaign::{Campaign, CampaignRun, Judged, Part};
pub use case::{Outcome, Run as Walk, Step};
pub use entry::{Boundary, EntryPath};
pub use error::LabError;
pub use expect::Expected;
pub use kernel::{Kernel, Vital};
pub use lab::Lab;
pub use path::{Path, Visit};
pub use results::{BaselineInfo, CaseRow, Document, KernelInfo, RunJudgement, SiteError, SweepInfo};
pub use running::Running;
pub use site::Site;
pub use sweep::{Kind, Row, Sweep, SweepStats};
pub use table::Table;
