//! Kernel memory outside the direct map, and how a new top-level entry of it
//! reaches the roots that exist.
//!
//! Lower levels are shared by all roots, so only a new top-level entry matters.
//! On real hardware one covers 512 GiB; here each area gets a slot of its own,
//! as if the one before were full.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use super::layout::{self, PAGE, VMALLOC_SLOT, VMALLOC_SLOTS};
use super::table::{Access, Table};
use super::{early, process};

/// What becomes of a new top-level entry: the three ways of the LKML thread of
/// July 2010.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Policy {
    /// It goes to the reference only; a root gets it by a page fault.
    Lazy,
    /// Every root gets it at once, under a lock that keeps fork out.
    Eager,
    /// There is never a new one: a single entry, filled before any process
    /// exists, serves all of vmalloc.
    Fixed,
}

/// The table that the allocation after *ready* writes: the only lower table that
/// is not boot memory.
#[unsafe(link_section = ".bss.page")]
static LEAF: Table = Table::empty();

/// One top-level slot's tables, which boot links and leaves empty: building three
/// tables would be most of a run's instructions, and teaches nothing.
struct Slot {
    /// The value of its top-level entry.
    entry: AtomicU64,
    /// Its first leaf table.
    leaf: AtomicPtr<Table>,
}

static SLOTS: [Slot; VMALLOC_SLOTS] =
    [const { Slot { entry: AtomicU64::new(0), leaf: AtomicPtr::new(ptr::null_mut()) } }; VMALLOC_SLOTS];

/// The policy, as a number: a static that begins as zero.
static POLICY: AtomicU64 = AtomicU64::new(0);
/// Areas allocated so far.
static AREAS: AtomicU64 = AtomicU64::new(0);
/// Address of the newest area.
static NEWEST: AtomicU64 = AtomicU64::new(0);

/// Links the lower tables. At boot, before the first process.
pub fn init(policy: Policy) {
    POLICY.store(policy as u64, Relaxed);
    let written = if policy == Policy::Fixed { 0 } else { 1 };
    for (i, slot) in SLOTS.iter().enumerate() {
        let [upper, middle] = [early::page(), early::page()];
        let leaf = if i == written { layout::physical(&raw const LEAF as u64) } else { early::page() };
        for (table, next) in [(upper, middle), (middle, leaf)] {
            // SAFETY: fresh pages, and RAM is identity-mapped here.
            unsafe { Table::at(table) }.entry(0).store(Table::link(next), Relaxed);
        }
        slot.entry.store(Table::link(upper), Relaxed);
        slot.leaf.store(layout::direct(leaf) as *mut Table, Relaxed);
    }
    if policy == Policy::Fixed {
        process::reference().entry(VMALLOC_SLOT).store(SLOTS[0].entry.load(Relaxed), Relaxed);
    }
}

/// The physical address of a page that the work may map: that of user data, which a
/// work without a user leaves alone. A page of its own would be one more to copy.
pub fn frame() -> u64 {
    layout::user_data()
}

/// The newest area: what an NMI's body touches, and what a root lacks longest.
#[inline(always)]
pub fn newest() -> *mut u64 {
    NEWEST.load(Relaxed) as *mut u64
}

/// Whether a new top-level entry reaches a root by a page fault only.
pub fn is_lazy() -> bool {
    POLICY.load(Relaxed) == Policy::Lazy as u64
}

/// Maps the page at `physical` into a new area of one page. Its address.
#[inline(never)]
pub fn allocate(physical: u64) -> *mut u64 {
    let area = AREAS.load(Relaxed) as usize;
    let policy = POLICY.load(Relaxed);
    let (number, page) = if policy == Policy::Fixed as u64 { (0, area) } else { (area, 0) };
    let Some(slot) = SLOTS.get(number) else { panic!("the vmalloc area is full") };
    // SAFETY: `init` stored the direct map's address of the slot's leaf table.
    let leaf = unsafe { &*slot.leaf.load(Relaxed) };
    leaf.entry(page).store(Access::Write.entry(physical), Relaxed);

    let entry = slot.entry.load(Relaxed);
    let index = VMALLOC_SLOT + number;
    process::locked(|| {
        process::reference().entry(index).store(entry, Relaxed);
        if policy == Policy::Eager as u64 {
            for root in process::roots() {
                root.entry(index).store(entry, Relaxed);
            }
        }
    });
    AREAS.store(area as u64 + 1, Relaxed);
    let address = layout::VMALLOC + number as u64 * layout::SLOT + page as u64 * PAGE;
    NEWEST.store(address, Relaxed);
    address as *mut u64
}
