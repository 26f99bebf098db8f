//! What a guest may not do unseen: write memory that is not carried, and MSRs.

use std::ops::Range;

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags};

use super::{Error, Host, Vm};
use crate::cpu::msr::TIME_MSRS;

/// MSRs that KVM knows, by the ranges that a filter can name (KVM API, 4.97); it raises #GP
/// for any other by itself.
const KNOWN_TO_KVM: [(u32, u32); 5] =
    [(0, 0x3000), (0x4000_0000, 0x1000), (0x4b56_4d00, 0x100), (0xc000_0000, 0x3000), (0xc001_0000, 0x3000)];

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Slots whose written pages KVM logs: number, and guest-physical addresses.
#[derive(Debug, Default)]
pub struct WriteLog(Vec<(u32, Range<u64>)>);

impl Host {
    /// Whether a guest's WRMSR can be made to exit (`KVM_CAP_X86_MSR_FILTER` with
    /// `KVM_CAP_X86_USER_SPACE_MSR`).
    pub fn filters_msrs(&self) -> bool {
        self.kvm().check_extension(Cap::X86MsrFilter) && self.kvm().check_extension(Cap::X86UserSpaceMsr)
    }
}

impl Vm {
    /// From now on only the pages of `writable` (ascending, page-aligned, apart) can be
    /// written by the guest: a write elsewhere ends a run in [`super::Exit::Mmio`].
    ///
    /// KVM's own page walks do not set accessed and dirty bits in read-only memory.
    pub fn write_only_to(&mut self, writable: &[Range<u64>]) -> Result<(), Error> {
        self.lay_slots(writable, KVM_MEM_READONLY).map(|_| ())
    }

    /// From now on it is logged which pages outside `writable` (ascending, page-aligned, apart)
    /// the guest's CPU writes.
    pub fn log_writes_outside(&mut self, writable: &[Range<u64>]) -> Result<WriteLog, Error> {
        // A page that was told stays told, and costs no second exit (KVM API, 7.18). Without this
        // a page is told each time, which is as right.
        let once = kvm_enable_cap {
            cap: kvm_bindings::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
            args: [kvm_bindings::KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE.into(), 0, 0, 0],
            ..Default::default()
        };
        if self.fd.check_extension_raw(kvm_bindings::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.into()) > 0 {
            self.fd.enable_cap(&once).map_err(Error::ioctl("KVM_ENABLE_CAP(MANUAL_DIRTY_LOG_PROTECT2)"))?;
        }
        Ok(WriteLog(self.lay_slots(writable, KVM_MEM_LOG_DIRTY_PAGES)?))
    }

    /// Adds to `pages` those that were written, once each.
    pub fn read_write_log(&self, log: &WriteLog, pages: &mut Vec<u64>) -> Result<(), Error> {
        for (slot, range) in &log.0 {
            let bytes = (range.end - range.start) as usize;
            let bitmap = self.fd.get_dirty_log(*slot, bytes).map_err(Error::ioctl("KVM_GET_DIRTY_LOG"))?;
            for (word, at) in bitmap.iter().zip((range.start..).step_by(64 * PAGE as usize)) {
                for bit in (0..64).filter(|bit| word >> bit & 1 != 0) {
                    let page = at + bit * PAGE;
                    if !pages.contains(&page) {
                        pages.push(page);
                    }
                }
            }
        }
        Ok(())
    }

    /// Lays RAM out in slots: those of `writable`, and with `flags` what is between. Returns the
    /// latter.
    fn lay_slots(&mut self, writable: &[Range<u64>], flags: u32) -> Result<Vec<(u32, Range<u64>)>, Error> {
        // A slot's flag cannot be changed in place: it goes, and its parts come.
        self.set_slot(0, 0..0, 0)?;
        let (mut from, mut slot, mut between) = (0, 0, Vec::new());
        let end = self.ram.len();
        for range in writable.iter().cloned().chain(std::iter::once(end..end)) {
            for (part, flags) in [(from..range.start, flags), (range.clone(), 0)] {
                if part.is_empty() {
                    continue;
                }
                self.set_slot(slot, part.clone(), flags)?;
                if flags != 0 {
                    between.push((slot, part));
                }
                slot += 1;
            }
            from = range.end;
        }
        Ok(between)
    }

    fn set_slot(&mut self, slot: u32, range: Range<u64>, flags: u32) -> Result<(), Error> {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: range.start,
            memory_size: range.end - range.start,
            userspace_addr: self.ram.host_address() + range.start,
        };
        // SAFETY: the range lies in RAM, which is mapped and lives in the same struct as
        // the VM, which is dropped first.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(Error::ioctl("KVM_SET_USER_MEMORY_REGION"))
    }

    /// From now on every WRMSR of the guest exits, and [`Vm::run`] carries out those to
    /// registers that are part of the state; so does an RDMSR of time. `false` where this KVM has
    /// no filter.
    pub fn trap_msrs(&mut self) -> Result<bool, Error> {
        if !(self.fd.check_extension(Cap::X86MsrFilter) && self.fd.check_extension(Cap::X86UserSpaceMsr)) {
            return Ok(false);
        }
        let exits = kvm_enable_cap {
            cap: kvm_bindings::KVM_CAP_X86_USER_SPACE_MSR,
            args: [KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0],
            ..Default::default()
        };
        self.fd.enable_cap(&exits).map_err(Error::ioctl("KVM_ENABLE_CAP(X86_USER_SPACE_MSR)"))?;
        // A bit that is clear denies: none is set.
        let none = [0; 0x3000 / 8];
        let denied = |flags, base, msr_count| MsrFilterRange { flags, base, msr_count, bitmap: &none };
        let writes = KNOWN_TO_KVM.map(|(base, count)| denied(MsrFilterRangeFlags::WRITE, base, count));
        let reads = TIME_MSRS.map(|number| denied(MsrFilterRangeFlags::READ, number, 1));
        let ranges: Vec<MsrFilterRange> = writes.into_iter().chain(reads).collect();
        self.fd
            .set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges)
            .map_err(Error::ioctl("KVM_X86_SET_MSR_FILTER"))?;
        Ok(true)
    }
}
