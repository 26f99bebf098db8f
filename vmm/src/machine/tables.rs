//! The guest's page tables after *ready*. Those outside the writable segments cannot be written,
//! not even by the CPU's walks: so their accessed and dirty bits are set before.
//!
//! With nested paging the CPU's walks of the guest's tables may count as writes (APM vol. 2,
//! "Nested versus Guest Page Faults"; SDM vol. 3, "Accessed and Dirty Flags for EPT"), and in
//! read-only memory each ends in an exit: seen on kvm_amd, which then emulates the instruction, and
//! takes the table's address for its operand's. On such a host memory stays writable; KVM logs which
//! pages are written, and these are compared after each run.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::boot;
use super::error::Error;
use super::layout::{MEASURING_RAM, OWN_CODE};
use super::paging::read_u64;
use crate::cpu::page::{ACCESSED, ADDRESS, DIRTY, LARGE, PRESENT, WRITE};
use crate::cpu::rflags;
use crate::kvm::{Exit, Host, Vm, WriteLog};

/// Entries in a table (SDM vol. 3, 5.5).
const ENTRIES: u64 = 512;
const PAGE: u64 = 4096;

/// Page-aligned addresses of the tables below `cr3`, ascending, at all four levels. A table that
/// lies outside RAM is left out: walks fault at it.
fn reachable(ram: &[u8], cr3: u64) -> BTreeSet<u64> {
    let mut seen = BTreeSet::from([(3, cr3 & ADDRESS)]);
    let mut open = vec![(3, cr3 & ADDRESS)];
    while let Some((level, table)) = open.pop() {
        for entry in (0..ENTRIES).filter_map(|i| read_u64(ram, table + i * 8)) {
            let next = (level - 1, entry & ADDRESS);
            if points_to_table(entry, level) && next.1 < ram.len() as u64 && seen.insert(next) && next.0 > 0 {
                open.push(next);
            }
        }
    }
    seen.into_iter().map(|(_, table)| table).collect()
}

fn points_to_table(entry: u64, level: u32) -> bool {
    entry & PRESENT != 0 && level > 0 && (level == 3 || entry & LARGE == 0)
}

/// Sets the bits that a walk may set, in every present entry of `table`: accessed, and dirty
/// where it allows writes. In an entry that points to a table, the CPU ignores the dirty bit.
fn preset(ram: &mut [u8], table: u64) {
    for at in (table..table + PAGE).step_by(8) {
        let Some(entry) = read_u64(ram, at).filter(|e| e & PRESENT != 0) else { continue };
        let dirty = if entry & WRITE != 0 { DIRTY } else { 0 };
        ram[at as usize..at as usize + 8].copy_from_slice(&(entry | ACCESSED | dirty).to_le_bytes());
    }
}

/// Prepares the tables below `cr3` that are not on one of the pages `carried`.
pub(super) fn prepare(ram: &mut [u8], cr3: u64, carried: &[u64]) {
    for table in reachable(ram, cr3) {
        if !carried.contains(&table) && table + PAGE <= ram.len() as u64 {
            preset(ram, table);
        }
    }
}

/// RAM that the host cannot protect, as it was at *ready*.
pub(super) struct Unprotected {
    log: WriteLog,
    /// All of RAM.
    copy: Box<[u8]>,
    /// Pages that the log has named: those that were written, if only with what they held, and,
    /// since KVM maps a page for writing wherever it can, those that were read.
    touched: Vec<u64>,
}

impl Unprotected {
    pub fn new(vm: &Vm, log: WriteLog) -> Self {
        Self { log, copy: vm.ram().bytes().into(), touched: Vec::new() }
    }

    /// Where the guest has written something else than was there, if anywhere. RAM is as before
    /// then. `ours` says which addresses hold something of the lab's own for now.
    pub fn check(&mut self, vm: &mut Vm, ours: impl Fn(u64) -> bool) -> Result<Option<u64>, Error> {
        vm.read_write_log(&self.log, &mut self.touched)?;
        let mut wrote = None;
        for page in &self.touched {
            let range = *page as usize..(page + PAGE) as usize;
            let (now, copy) = (&mut vm.ram_mut()[range.clone()], &self.copy[range]);
            if now == copy {
                continue;
            }
            let differ = (*page..).zip(now.iter().zip(copy)).filter(|(_, (now, copy))| now != copy);
            let theirs = differ.map(|(paddr, _)| paddr).find(|paddr| !ours(*paddr));
            if theirs.is_some() {
                wrote = wrote.or(theirs);
                now.copy_from_slice(copy);
            }
        }
        Ok(wrote)
    }
}

/// A page that may be written, and a HLT.
const WRITABLE: std::ops::Range<u64> = 0x10_0000..0x10_1000;
const HALT: u8 = 0xf4;

static READ_ONLY: OnceLock<bool> = OnceLock::new();

/// Whether a guest runs with its page tables in read-only memory on this host: measured once.
pub(super) fn can_be_read_only(host: &Host) -> Result<bool, Error> {
    if let Some(known) = READ_ONLY.get() {
        return Ok(*known);
    }
    let mut vm = Vm::new(host, MEASURING_RAM)?;
    boot::flat(&mut vm, &[])?;
    vm.write_only_to(&[WRITABLE])?;
    vm.ram_mut()[OWN_CODE as usize] = HALT;
    vm.state_mut().regs = crate::cpu::Regs { rip: OWN_CODE, rflags: rflags::FIXED, ..Default::default() };
    let runs = vm.run()? == Exit::Hlt;
    Ok(*READ_ONLY.get_or_init(|| runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(ram: &mut [u8], at: usize, value: u64) {
        ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// A root at 0x1000 with a recursive entry, a table outside RAM, and one way to a page.
    fn tables() -> Vec<u8> {
        let mut ram = vec![0; 0x8000];
        put(&mut ram, 0x1000, 0x2000 | PRESENT | WRITE);
        put(&mut ram, 0x1008, 0x1000 | PRESENT | WRITE);
        put(&mut ram, 0x1010, 0xffff_0000 | PRESENT);
        put(&mut ram, 0x2000, 0x3000 | PRESENT | WRITE);
        put(&mut ram, 0x3000, 0x4000 | PRESENT);
        put(&mut ram, 0x3008, LARGE | PRESENT); // a large page: not a table
        put(&mut ram, 0x4000, 0x5000 | PRESENT);
        put(&mut ram, 0x4008, 0x6000 | WRITE); // not present
        ram
    }

    #[test]
    fn every_table_is_found_and_no_page() {
        let found: Vec<_> = reachable(&tables(), 0x1000).into_iter().collect();
        // By the recursive entry, tables of the last level are seen as such of the others, and
        // the page at 0x5000 is not one.
        assert_eq!(found, [0x1000, 0x2000, 0x3000, 0x4000]);
    }

    #[test]
    fn bits_are_set_where_nothing_carries_them() {
        let mut ram = tables();
        prepare(&mut ram, 0x1000, &[0x3000]);
        assert_eq!(read_u64(&ram, 0x1000), Some(0x2000 | PRESENT | WRITE | ACCESSED | DIRTY));
        assert_eq!(read_u64(&ram, 0x3000), Some(0x4000 | PRESENT), "it is carried");
        assert_eq!(read_u64(&ram, 0x4000), Some(0x5000 | PRESENT | ACCESSED));
        assert_eq!(read_u64(&ram, 0x4008), Some(0x6000 | WRITE), "it is not present");
    }
}
