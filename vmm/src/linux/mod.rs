//! NMIs into a real Linux kernel: schedules, sweeps and verdicts on
//! [`crate::machine::linux`].
//!
//! The kernel is not the lab's, so the oracle looks from the outside: the kernel's own
//! count of NMIs, the interrupted context, the console, and a user program that
//! computes a checksum and lives.

mod bench;
mod campaign;
mod case;
mod document;
mod expect;
mod lab;
mod site;
mod sweep;
mod table;
mod walk;

pub use bench::{Bench, bench};
pub use campaign::{Campaign, CampaignRun, Part, kernel_cache};
pub use case::{Outcome, Which};
pub use document::{CaseRow, Document, KernelInfo, RunJudgement, SweepInfo};
pub use expect::Expected;
pub use lab::{Lab, LabError, Setup};
pub use site::Site;
pub use sweep::{Kind, Row, Sweep, SweepStats};
pub use table::Table;
pub use walk::{Path, Visit};
