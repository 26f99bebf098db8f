//! What the lab's user program and the machine have agreed on.

/// A byte is written to this port in mid-checksum.
pub const MARK: u16 = 0x4e1;
/// The same right after that, on a stack segment of the LDT where the program has one.
pub const LDT_MARK: u16 = 0x4e2;
/// The checksum is written to this port at the end of each round.
pub const HEARTBEAT: u16 = 0x4e4;

/// What runs on a kernel, or what of the kernel itself shows that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// What it writes to its heartbeat's port, each time; anything where there is none.
    pub checksum: Option<u32>,
    /// The heartbeat's port.
    pub heartbeat: u16,
}

impl Program {
    /// The lab's own, with this checksum.
    pub fn own(checksum: u32) -> Self {
        Self { checksum: Some(checksum), heartbeat: HEARTBEAT }
    }

    /// Whether a port is one of its own.
    pub fn is(&self, port: u16) -> bool {
        port == self.heartbeat && port != 0 || [MARK, LDT_MARK].contains(&port) && self.checksum.is_some()
    }

    /// None that is known of but that it writes to a port; 0 where not even that.
    pub fn at_port(heartbeat: u16) -> Self {
        Self { checksum: None, heartbeat }
    }
}
