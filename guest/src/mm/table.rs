//! Page tables.
//!
//! Every entry is born Accessed and Dirty, so that the CPU never writes a table.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guest::abi;

use super::early;
use super::layout::{self, ACCESSED, ADDRESS, DIRTY, ENTRIES, LARGE, NO_EXECUTE, PAGE, PRESENT, USER, WRITE};
use crate::arch::cpu;

/// An entry that links to a table: what the pages below it allow is theirs to say.
const TABLE_ENTRY: u64 = PRESENT | WRITE | ACCESSED | DIRTY;

/// What a mapping allows besides reading by the kernel.
#[derive(Clone, Copy)]
pub enum Access {
    /// Nothing else.
    Read,
    /// To write, not to execute.
    Write,
    /// To execute, not to write.
    Execute,
    /// To write, also to user code.
    UserWrite,
    /// To execute, also to user code.
    UserExecute,
}

impl Access {
    /// The last-level entry that maps the page at `physical` so.
    pub fn entry(self, physical: u64) -> u64 {
        let allowed = match self {
            Access::Read => NO_EXECUTE,
            Access::Write => NO_EXECUTE | WRITE,
            Access::Execute => 0,
            Access::UserWrite => NO_EXECUTE | WRITE | USER,
            Access::UserExecute => USER,
        };
        physical | allowed | PRESENT | ACCESSED | DIRTY
    }
}

/// A table of any level.
#[repr(C, align(4096))]
pub struct Table([AtomicU64; ENTRIES]);

impl Table {
    /// One that maps nothing.
    pub const fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }

    /// Entry `index`, 0 to 511.
    #[inline(always)]
    pub fn entry(&self, index: usize) -> &AtomicU64 {
        &self.0[index % ENTRIES]
    }

    /// The table at physical address `physical`, by its identity or direct
    /// mapping `at`.
    ///
    /// # Safety
    /// `at` must be the mapped address of a page table, or of a page of zeros
    /// that is to become one.
    pub unsafe fn at(at: u64) -> &'static Table {
        // SAFETY: the caller's; the entries are atomic, so that several may hold
        // references.
        unsafe { &*(at as *const Table) }
    }

    /// The top-level entry's value for a next-level table at `physical`.
    pub fn link(physical: u64) -> u64 {
        physical | TABLE_ENTRY
    }

    /// The table that entry `index` links to, a new one where it links nowhere.
    /// Only at boot. Tables are reached by the identity mapping, and after the first root switch
    /// by the direct map.
    fn next(&self, index: usize, user: bool) -> &'static Table {
        let entry = self.entry(index);
        if entry.load(Relaxed) & PRESENT == 0 {
            entry.store(Self::link(early::page()) | if user { USER } else { 0 }, Relaxed);
        }
        let next = entry.load(Relaxed) & ADDRESS;
        // The VMM's own tables lie below the image.
        let next = if cpu::root() < abi::IMAGE_MIN_PADDR { next } else { layout::direct(next) };
        // SAFETY: a table linked above, or a fresh page of zeros; RAM is identity-mapped until the
        // first root switch, and every root has the direct map.
        unsafe { Self::at(next) }
    }
}

/// The index of `address` in a table of `level` (3: the root … 0: the last).
fn index(address: u64, level: u32) -> usize {
    (address >> (PAGE.trailing_zeros() + ENTRIES.trailing_zeros() * level)) as usize % ENTRIES
}

/// Maps one page, at boot.
pub fn map(root: &'static Table, address: u64, physical: u64, access: Access) {
    // The entries on the way need the bit, too.
    let user = matches!(access, Access::UserWrite | Access::UserExecute);
    let leaf = (1..4).rev().fold(root, |table, level| table.next(index(address, level), user));
    leaf.entry(index(address, 0)).store(access.entry(physical), Relaxed);
}

/// Maps one large page for reading and writing, at boot.
pub fn map_large(root: &'static Table, address: u64, physical: u64) {
    let directory = root.next(index(address, 3), false).next(index(address, 2), false);
    directory.entry(index(address, 1)).store(Access::Write.entry(physical) | LARGE, Relaxed);
}

/// Maps the page at `physical` for reading at `base`, and at every 64 KiB of the 4 GiB from
/// there on, by three tables that link to the same next one again and again. At boot.
/// `base` must be a multiple of 1 GiB.
pub fn map_at_every_64k(root: &'static Table, base: u64, physical: u64) {
    let upper = root.next(index(base, 3), false);
    let middle = upper.next(index(base, 2), false);
    let leaf = middle.next(0, false);
    const GIGABYTES: usize = 4;
    for gigabyte in 1..GIGABYTES {
        upper.entry(index(base, 2) + gigabyte).store(upper.entry(index(base, 2)).load(Relaxed), Relaxed);
    }
    for entry in 1..ENTRIES {
        middle.entry(entry).store(middle.entry(0).load(Relaxed), Relaxed);
    }
    const EVERY: usize = (0x1_0000 / PAGE) as usize;
    for page in (0..ENTRIES).step_by(EVERY) {
        leaf.entry(page).store(Access::Read.entry(physical), Relaxed);
    }
}

/// Whether `root` maps `address` by a small page, found through the direct map.
pub fn is_mapped(root: &Table, address: u64) -> bool {
    let mut entry = root.entry(index(address, 3)).load(Relaxed);
    for level in (0..3).rev() {
        if entry & PRESENT == 0 {
            return false;
        }
        // SAFETY: present entries of the upper levels link to tables, which the
        // direct map reaches.
        let table = unsafe { Table::at(layout::direct(entry & ADDRESS)) };
        entry = table.entry(index(address, level)).load(Relaxed);
    }
    entry & PRESENT != 0
}
