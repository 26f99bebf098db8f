//! Physical memory, as the model sees it.

use std::ops::Range;

/// What an access to physical memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An entry of a page table, read by a walk, or written to set accessed or dirty.
    Table,
    /// The bytes of an instruction.
    Fetch,
    /// A gate of the IDT.
    Idt,
    /// A descriptor of the GDT or an LDT.
    Descriptor,
    /// A word of the TSS.
    Tss,
    /// An operand, or a word of a stack.
    Data,
}

/// Guest-physical memory. Sizes are 1, 2, 4 or 8 bytes; values are little-endian and
/// zero-extended. An access never crosses a page.
pub trait Memory {
    /// Reads. `None` where there is no memory that the model may read.
    fn read(&mut self, kind: Kind, paddr: u64, size: usize) -> Option<u64>;

    /// Writes. `None`, and nothing written, where there is no memory that the guest can
    /// write. A write of [`Kind::Table`] to read-only memory is dropped without a word, as
    /// KVM does it.
    fn write(&mut self, kind: Kind, paddr: u64, size: usize, value: u64) -> Option<()>;

    /// Up to 15 bytes of code, without counting as a read.
    fn peek(&self, paddr: u64, size: usize) -> Option<u128>;

    /// Takes note that these bytes were executed.
    fn fetched(&mut self, paddr: u64, size: usize);
}

/// One access to physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What for.
    pub kind: Kind,
    /// Whether it wrote.
    pub write: bool,
    /// Bytes.
    pub size: u8,
    /// Guest-physical address of the first byte.
    pub paddr: u64,
    /// What was read, or what was there before the write: enough to undo it. 0 for a fetch.
    pub before: u64,
    /// What was read or written.
    pub value: u64,
}

/// Guest RAM from physical address 0 up, with a log of what was accessed.
#[derive(Debug)]
pub struct Ram<'a> {
    bytes: &'a mut [u8],
    read_only: &'a [Range<u64>],
    /// Every access since the log was last cleared, in order. The caller clears it.
    pub log: &'a mut Vec<Access>,
}

impl<'a> Ram<'a> {
    /// All of `bytes` is readable and writable.
    pub fn new(bytes: &'a mut [u8], log: &'a mut Vec<Access>) -> Self {
        Self { bytes, read_only: &[], log }
    }

    /// The same, but nothing in `read_only` (guest-physical addresses) can be written.
    pub fn with_read_only(self, read_only: &'a [Range<u64>]) -> Self {
        Self { read_only, ..self }
    }

    /// RAM as it is now.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    #[inline]
    fn get(&self, paddr: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(paddr).ok()?;
        if let Some(word) = self.bytes.get(at..at.checked_add(8)?) {
            let word = u64::from_le_bytes(word.try_into().ok()?);
            return Some(word & super::value::ones(size));
        }
        let mut word = [0; 8];
        word.get_mut(..size)?.copy_from_slice(self.bytes.get(at..at.checked_add(size)?)?);
        Some(u64::from_le_bytes(word))
    }
}

impl Memory for Ram<'_> {
    #[inline]
    fn read(&mut self, kind: Kind, paddr: u64, size: usize) -> Option<u64> {
        let value = self.get(paddr, size)?;
        self.log.push(Access { kind, write: false, size: size as u8, paddr, before: value, value });
        Some(value)
    }

    #[inline]
    fn write(&mut self, kind: Kind, paddr: u64, size: usize, value: u64) -> Option<()> {
        let end = paddr.checked_add(size as u64)?;
        if self.read_only.iter().any(|r| paddr < r.end && r.start < end) {
            return (kind == Kind::Table).then_some(());
        }
        let before = self.get(paddr, size)?;
        let at = usize::try_from(paddr).ok()?;
        self.bytes.get_mut(at..at + size)?.copy_from_slice(value.to_le_bytes().get(..size)?);
        self.log.push(Access { kind, write: true, size: size as u8, paddr, before, value });
        Some(())
    }

    #[inline]
    fn peek(&self, paddr: u64, size: usize) -> Option<u128> {
        let at = usize::try_from(paddr).ok()?;
        if let Some(bytes) = self.bytes.get(at..at.checked_add(16)?) {
            let mask = (1u128 << (8 * size.min(15))) - 1;
            return Some(u128::from_le_bytes(bytes.try_into().ok()?) & mask);
        }
        let mut out = [0; 16];
        out.get_mut(..size)?.copy_from_slice(self.bytes.get(at..at.checked_add(size)?)?);
        Some(u128::from_le_bytes(out))
    }

    #[inline]
    fn fetched(&mut self, paddr: u64, size: usize) {
        self.log.push(Access { kind: Kind::Fetch, write: false, size: size as u8, paddr, before: 0, value: 0 });
    }
}
