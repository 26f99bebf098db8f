//! NMIs into a real kernel, which runs on [`pc`]: schedules, sweeps and verdicts.
//!
//! The kernel is not the lab's, so the oracle looks from the outside: the kernel's own
//! count of NMIs, the interrupted context, the console, and a user program that
//! computes a checksum and lives.

mod bench;
mod campaign;
mod case;
mod expect;
mod lab;
pub mod linux;
mod path;
pub mod pc;
mod results;
mod site;
mod sweep;
mod table;

pub use bench::{Bench, bench};
pub use campaign::{Campaign, CampaignRun, Part, kernel_cache};
pub use case::{Outcome, Which};
pub use expect::Expected;
pub use lab::{Lab, LabError, Setup};
pub use path::{Path, Visit};
pub use results::{CaseRow, Document, KernelInfo, RunJudgement, SweepInfo};
pub use site::Site;
pub use sweep::{Kind, Row, Sweep, SweepStats};
pub use table::Table;
