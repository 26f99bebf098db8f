//! What not every host has, and a scenario cannot be shown without.

/// What a scenario cannot be shown without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Returns to a 16-bit stack segment of an LDT, which do not give back bits 31:16 of RSP.
    LdtSs16,
}

impl Need {
    /// The one that a manifest calls `name`.
    pub fn of(name: &str) -> Option<Self> {
        (name == "ldt-ss16").then_some(Need::LdtSs16)
    }
}
