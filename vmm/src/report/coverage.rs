//! Coverage (I20), for a reader and as JSON.

use serde::Serialize;

use crate::inject::coverage::{Count, Coverage, Kind};

/// Boundaries where execution stood in one kind of context.
#[derive(Clone, Debug, Serialize)]
pub struct CoverageRow {
    /// The privilege level.
    pub cpl: u8,
    /// `kernel` or `user`: whose base GS has.
    pub gs: &'static str,
    /// The declared stack that RSP points into.
    pub rsp: Option<String>,
    /// NMIs are blocked.
    pub blocked: bool,
    /// One is pending.
    pub pending: bool,
    /// Instructions that execution stood at so.
    pub boundaries: u64,
    /// Of these, those that had an NMI injected.
    pub injected: u64,
    /// Those where an arrival would only be latched.
    pub latched: u64,
    /// Neither injected nor latched.
    pub open: u64,
}

/// A kind of context, of an arrival that is delivered at once, that cannot be reached.
#[derive(Clone, Debug, Serialize)]
pub struct Unreachable {
    /// The privilege level.
    pub cpl: u8,
    /// `kernel` or `user`.
    pub gs: &'static str,
    /// The declared stack.
    pub rsp: Option<String>,
}

/// What all cases of a scheme and scenario covered.
#[derive(Clone, Debug, Serialize)]
pub struct RowCoverage {
    /// Boundaries, each counted once in each kind of context that it was seen in.
    pub boundaries: u64,
    /// Of these, those that had an NMI injected.
    pub injected: u64,
    /// Those where an arrival would only be latched.
    pub latched: u64,
    /// The rest: seen, and not covered.
    pub open: u64,
    /// What a closed search has shown to be unreachable; `None` where the cases are a
    /// sample, which can show no such thing.
    pub unreachable: Option<Vec<Unreachable>>,
    /// By kind of context.
    pub contexts: Vec<CoverageRow>,
}

impl RowCoverage {
    /// `closed`: a search saw everything there is. `stacks`: the declared ones.
    pub fn new(coverage: &Coverage, closed: bool, stacks: &[String]) -> Self {
        let mut sum = Count::default();
        coverage.counts().values().for_each(|count| sum.add(*count));
        let unreachable = |kind: &Kind| Unreachable { cpl: kind.cpl, gs: gs(kind), rsp: rsp(kind, stacks) };
        Self {
            boundaries: sum.boundaries,
            injected: sum.injected,
            latched: sum.latched,
            open: sum.open(),
            unreachable: closed.then(|| coverage.never_stood(stacks.len()).iter().map(unreachable).collect()),
            contexts: rows(coverage, stacks),
        }
    }
}

/// The rows, in the order of the kinds.
pub(super) fn rows(coverage: &Coverage, stacks: &[String]) -> Vec<CoverageRow> {
    let row = |(kind, count): (&Kind, &Count)| CoverageRow {
        cpl: kind.cpl,
        gs: gs(kind),
        rsp: rsp(kind, stacks),
        blocked: kind.blocked,
        pending: kind.pending,
        boundaries: count.boundaries,
        injected: count.injected,
        latched: count.latched,
        open: count.open(),
    };
    coverage.counts().iter().map(row).collect()
}

fn gs(kind: &Kind) -> &'static str {
    if kind.kernel_gs { "kernel" } else { "user" }
}

fn rsp(kind: &Kind, stacks: &[String]) -> Option<String> {
    kind.stack.and_then(|i| stacks.get(usize::from(i))).cloned()
}
