//! The bases of GS, of which a kernel has one and its user program the other.

/// The two GS bases of a kernel that runs one user program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct GsBases {
    pub user: u64,
    pub kernel: u64,
}
