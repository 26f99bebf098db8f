//! The explorer: every pattern of NMIs, to closure.
//!
//! Nodes are complete machine states at boundaries; edges are one instruction, or one
//! arrival. Equal states are merged, so the search ends when nothing new appears.
//! Then every number, timing and nesting of NMIs has been covered for that scheme
//! and scenario. States are searched by ascending number of arrivals and, among
//! those, of edges: the first violation found has a shortest schedule.
//!
//! The model of the CPU ([`crate::cpu`]) carries the search; KVM executes every distinct
//! chain of instructions once and must come to the state that the model predicted.
//!
//! Four reductions, each with a switch to check it. An arrival while NMIs are blocked
//! is kept until they are not, so it equals an arrival at the boundary where they
//! are unblocked; only unblocked boundaries branch. And since nothing can arrive at
//! a blocked one, a chain of them is one edge. Stack words that nothing will read do not
//! tell states apart (see `live.rs`). And contexts that an NMI's code cannot tell apart are
//! interrupted once for all (see `episodes.rs`).

mod class;
mod config;
mod confirm;
mod digest;
mod dot;
mod episode;
mod episodes;
mod live;
pub mod memory;
mod packed;
mod path;
mod poison;
mod progress;
mod rounds;
mod search;
mod states;
mod threads;
mod words;
mod worker;

pub use config::{Bound, Config, Contradiction, Deviation, Episodes, Error, Found, Growth, Report};
pub use path::Reductions;
pub use progress::Progress;
pub use rounds::explore;
