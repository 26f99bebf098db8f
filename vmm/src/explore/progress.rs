//! What a search reports while it runs.

/// A search under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// States seen.
    pub states: u64,
    /// States found but not expanded yet.
    pub frontier: u64,
    /// Arrivals on the paths that are being searched now.
    pub arrivals: u32,
}
