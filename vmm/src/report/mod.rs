//! What results look like: JSON, terminal tables, traces, JUnit.

mod agree;
mod columns;
mod compare;
mod coverage;
mod document;
mod exploration;
mod junit;
mod terminal;
mod trace;

pub use agree::{Agreement, Results, agree};
pub use columns::columns;
pub use compare::comparison;
pub use coverage::{CoverageRow, RowCoverage, Unreachable};
pub use document::{CampaignInfo, Document, FailureRow, Row, Summary};
pub use exploration::Exploration;
pub use junit::junit;
pub use terminal::terminal;
pub use trace::{Step, header as trace_header};
