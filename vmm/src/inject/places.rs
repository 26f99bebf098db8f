//! A restriction of the boundaries at which events are placed.

/// Boundaries, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Places {
    /// Every one.
    #[default]
    All,
    /// Those at these addresses, ascending.
    Only(Vec<u64>),
}

impl Places {
    /// Those at `addresses`.
    pub fn only(mut addresses: Vec<u64>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Places::Only(addresses)
    }

    /// Whether an event may be placed at `addr`.
    pub fn has(&self, addr: u64) -> bool {
        match self {
            Places::All => true,
            Places::Only(list) => list.binary_search(&addr).is_ok(),
        }
    }
}
