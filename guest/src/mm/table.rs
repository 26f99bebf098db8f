//! Page tables.
//!
//! Every entry is born Accessed and Dirty, so that the CPU never writes a table.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{early, layout};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a page mapped by a second-level entry.
pub const LARGE_PAGE: u64 = 2 << 20;

/// The entry maps something.
pub const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const TABLE_ENTRY: u64 = PRESENT | WRITE | ACCESSED | DIRTY;

/// What a mapping allows besides reading.
#[derive(Clone, Copy)]
pub enum Access {
    /// Nothing.
    Read,
    /// To write.
    Write,
    /// To execute.
    Execute,
    /// To write, also to user code.
    UserWrite,
    /// To execute, also to user code.
    UserExecute,
}

impl Access {
    /// The entry that maps the page at `physical` so.
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
pub struct Table([AtomicU64; 512]);

impl Table {
    /// One that maps nothing.
    pub const fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Entry `index`.
    #[inline(always)]
    pub fn entry(&self, index: usize) -> &AtomicU64 {
        &self.0[index % 512]
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
    /// Only at boot, before the first root switch: tables are reached by the
    /// identity mapping.
    fn next(&self, index: usize, user: bool) -> &'static Table {
        let entry = self.entry(index);
        if entry.load(Relaxed) & PRESENT == 0 {
            entry.store(Self::link(early::page()) | if user { USER } else { 0 }, Relaxed);
        }
        let next = entry.load(Relaxed) & ADDRESS;
        // SAFETY: a table linked above, or a fresh page of zeros; RAM is
        // identity-mapped until the first root switch.
        unsafe { Self::at(next) }
    }
}

/// The index of `address` in a table of `level` (3: the root … 0: the last).
fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % 512
}

/// Maps one page, at boot.
pub fn map(root: &'static Table, address: u64, physical: u64, access: Access) {
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
pub fn map_at_every_64k(root: &'static Table, base: u64, physical: u64) {
    let upper = root.next(index(base, 3), false);
    let middle = upper.next(index(base, 2), false);
    let leaf = middle.next(0, false);
    for gigabyte in 1..4 {
        upper.entry(index(base, 2) + gigabyte).store(upper.entry(index(base, 2)).load(Relaxed), Relaxed);
    }
    for entry in 1..512 {
        middle.entry(entry).store(middle.entry(0).load(Relaxed), Relaxed);
    }
    for page in (0..512).step_by(16) {
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
