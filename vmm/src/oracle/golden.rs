//! The run without NMIs that every other run is compared with.

use crate::image::Trap;

/// Execution stood at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The instruction that comes next.
    pub addr: u64,
    /// The n-th time execution stands there, from 1.
    pub n: u32,
    /// Whether NMIs are blocked there.
    pub blocked: bool,
    /// Whether the boundary lies in the shadow of a `mov ss` or `sti`.
    pub shadow: bool,
}

/// The golden run of one scheme and scenario.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// Every boundary, in order, from *ready* on; the last is that of the hypercall
    /// that ended the scenario.
    pub visits: Vec<Visit>,
    /// The #DBs and #GPs, in order.
    pub traps: Vec<Trap>,
    /// The lowest address of an instruction in it that reads time or randomness.
    pub reads_time: Option<u64>,
    /// The page tables that user code ran on: CR3 without its flags.
    pub user_roots: Vec<u64>,
    /// What the guest reported at the end.
    pub checksum: u64,
    /// The writable pages at the end.
    pub pages: Vec<u8>,
    /// RSP at the end.
    pub rsp: u64,
}
