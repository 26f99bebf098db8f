//! Processes, each no more than a root page table of its own.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use super::table::Table;
use super::{early, layout};
use crate::arch::cpu;

/// The number of the first process, which boot makes.
pub const FIRST: usize = 1;
/// Roots: the reference, and those of two processes.
const ROOTS_LEN: usize = 3;

// Any root may get its vmalloc entries at any time, by a fault in an NMI's body.
lab_note!("scratch low=ROOTS+0x1c90 high=ROOTS+0x1ca0");
lab_note!("scratch low=ROOTS+0x2c90 high=ROOTS+0x2ca0");

/// Root tables. Number 0 is the reference, which no process runs on: what the
/// kernel maps is true there first.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.page")]
static ROOTS: [Table; ROOTS_LEN] = [const { Table::empty() }; ROOTS_LEN];

/// A bit for each root that a process has.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// Held while the set of roots or the reference changes. NMI code never takes it.
static LOCK: AtomicBool = AtomicBool::new(false);

/// Runs `f` under the lock that keeps fork and the eager walk apart.
#[inline(always)]
pub fn locked<T>(f: impl FnOnce() -> T) -> T {
    while LOCK.swap(true, Acquire) {
        core::hint::spin_loop();
    }
    let result = f();
    LOCK.store(false, Release);
    result
}

/// The reference page table.
#[inline(always)]
pub fn reference() -> &'static Table {
    &ROOTS[0]
}

/// The roots of all processes. For use under the lock.
#[inline(always)]
pub fn roots() -> impl Iterator<Item = &'static Table> {
    let live = LIVE.load(Relaxed);
    ROOTS.iter().enumerate().filter(move |(i, _)| live >> i & 1 != 0).map(|(_, root)| root)
}

/// Makes a process: a root with the kernel slots that the reference has now.
/// Its number.
#[inline(never)]
pub fn fork() -> usize {
    locked(|| {
        let live = LIVE.load(Relaxed);
        let Some(free) = (FIRST..ROOTS_LEN).find(|i| live >> i & 1 == 0) else {
            panic!("no root is left for a process")
        };
        // Four plain moves: a loop's own instructions would be boundaries too.
        let copy = |slot| ROOTS[free].entry(slot).store(reference().entry(slot).load(Relaxed), Relaxed);
        let [direct, vmalloc, vmalloc_next, image] = layout::KERNEL_SLOTS;
        copy(direct);
        copy(vmalloc);
        copy(vmalloc_next);
        copy(image);
        LIVE.store(live | 1 << free, Relaxed);
        free
    })
}

/// Gives process `number` user memory: all processes have the same.
pub fn give_user(number: usize) {
    give(number, layout::USER_TEXT);
}

/// Gives process `number` what the reference has at `address`, with the whole slot.
pub fn give(number: usize, address: u64) {
    let slot = layout::slot(address);
    ROOTS[number].entry(slot).store(reference().entry(slot).load(Relaxed), Relaxed);
}

/// The physical address of the root of process `number`.
pub fn root(number: usize) -> u64 {
    layout::physical(&raw const ROOTS[number] as u64)
}

/// Makes a root like that of process `number`, and takes user memory from the
/// latter: the root for user mode, where the kernel has one of its own. A physical
/// address.
pub fn take_user(number: usize) -> u64 {
    let page = early::page();
    // SAFETY: a fresh page of zeros, which the direct map reaches.
    let user = unsafe { Table::at(layout::direct(page)) };
    for slot in 0..layout::ENTRIES {
        user.entry(slot).store(ROOTS[number].entry(slot).load(Relaxed), Relaxed);
    }
    ROOTS[number].entry(layout::slot(layout::USER_TEXT)).store(0, Relaxed);
    page
}

/// Whether the root of process `number` has no entry for `address`.
pub fn lacks(number: usize, address: u64) -> bool {
    ROOTS[number].entry(layout::slot(address)).load(Relaxed) == 0
}

/// Runs on the root of process `number` from now on.
#[inline(never)]
pub fn switch(number: usize) {
    // SAFETY: the root of every process has the kernel slots of the reference.
    unsafe { cpu::set_root(root(number)) };
}
