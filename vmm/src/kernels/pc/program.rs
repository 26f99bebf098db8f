//! What the lab's user program and the machine have agreed on.

/// A byte is written to this port in mid-checksum.
pub const MARK: u16 = 0x4e1;
/// The checksum is written to this port at the end of each round.
pub const HEARTBEAT: u16 = 0x4e4;

/// The user program on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// What it writes to [`HEARTBEAT`], each time.
    pub checksum: u32,
}
