//! What an access to memory asks of the page tables and of its address.

/// An access, as rights see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub write: bool,
    pub fetch: bool,
    /// By code at CPL 3.
    pub user: bool,
    /// By the CPU itself, to a table: SMAP's AC flag does not allow it.
    pub implicit: bool,
}

impl Want {
    /// To read data.
    pub fn read(cpl: u8) -> Self {
        Self { write: false, fetch: false, user: cpl == 3, implicit: false }
    }

    /// To write data.
    pub fn write(cpl: u8) -> Self {
        Self { write: true, ..Self::read(cpl) }
    }

    /// To execute.
    pub fn fetch(cpl: u8) -> Self {
        Self { fetch: true, ..Self::read(cpl) }
    }

    /// To read a descriptor table or the TSS.
    pub const SYSTEM: Self = Self { write: false, fetch: false, user: false, implicit: true };
    /// To set a bit in a descriptor.
    pub const SYSTEM_WRITE: Self = Self { write: true, ..Self::SYSTEM };
}

/// Whether bits 63 to 48 are copies of bit 47.
#[inline]
pub fn is_canonical(at: u64) -> bool {
    ((at << 16) as i64 >> 16) as u64 == at
}
