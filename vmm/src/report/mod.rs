//! What results look like. Every command's results are a [`Report`], which every format of
//! [`FORMATS`] can write: text, JSON, JUnit, KTAP.

mod agree;
mod bench;
mod columns;
mod compare;
mod coverage;
mod document;
mod document_report;
mod exploration;
mod format;
mod formats;
mod html;
mod json;
mod junit;
mod ktap;
mod linux;
mod lists;
mod model;
mod plain;
mod probe;
mod run;
mod story;
mod table;
mod terminal;
mod trace;
mod tracer;

pub use agree::{Agreed, Agreement, Results, agree};
pub use columns::columns;
pub use coverage::{CoverageRow, RowCoverage, Unreachable};
pub use document::{CampaignInfo, Document, FailureRow, Row, Summary, Units};
pub use exploration::Exploration;
pub use format::{Format, Kind, Look, Outcome, Report, Suite, Test};
pub use formats::{FORMATS, format, names as format_names};
pub use json::pretty as write_json;
pub use linux::{LinuxCase, LinuxReport};
pub use lists::{Boundary, BoundaryList, Masked, ScenarioList, SchemeList};
pub use model::ModelReport;
pub use plain::{plain, plain_lines};
pub use probe::{Comparison as ProbeComparison, ProbeReport};
pub use run::{Run, judgement};
pub use story::{Recorder, Story, sentence};
pub use trace::{Step, header as trace_header};
pub use tracer::Tracer;
