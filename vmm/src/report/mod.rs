//! What results look like: JSON, terminal tables, traces, JUnit.

mod columns;
mod document;
mod trace;

pub use columns::columns;
pub use document::{CampaignInfo, Disagreement, Document, FailureRow, Row, Summary, Timing};
pub use trace::{Step, header as trace_header};
