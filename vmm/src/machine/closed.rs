//! What changes at *ready*: from then on the guest can store nothing where the lab does not
//! look.

use std::ops::Range;
use std::sync::Arc;

use super::error::Error;
use super::idt::Idt;
use super::lab::Machine;
use super::predictor::Predictor;
use super::tables::{self, Unprotected};
use super::undefined;
use crate::cpu;
use crate::image::{Code, Image};
use crate::kvm::Host;

/// MSRs by which a guest has KVM write to its memory at times of KVM's choosing, if bit 0 is set: the
/// clock, old and new, asynchronous page faults, stolen time and the end of interrupts (Linux,
/// Documentation/virt/kvm/x86/msr.rst); Hyper-V's reference TSC and synthetic interrupts (TLFS, 11
/// and 12).
const WRITTEN_BY_KVM: [u32; 9] =
    [0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x12, 0x4000_0021, 0x4000_0080, 0x4000_0083, 0x4000_0084];

impl Machine {
    /// Closes the machine: only the pages that are carried can be written, an MSR that is not
    /// carried traps, and code is decoded as boot has left it.
    pub(super) fn close(&mut self, host: &Host) -> Result<(), Error> {
        let writable = stretches(&self.pages);
        let cr3 = self.state().sregs.cr3;
        tables::prepare(self.vm.ram_mut(), cr3, &self.pages);
        if tables::can_be_read_only(host)? {
            self.vm.write_only_to(&writable)?;
        } else {
            let log = self.vm.log_writes_outside(&writable)?;
            self.unprotected = Some(Unprotected::new(&self.vm, log));
        }
        let faulting_iret_unblocks = self.knobs.faulting_iret_unblocks;
        let delivery_clears_ac = host.quirks().delivery_clears_ac;
        let [undefined, undefined_at_cpl3] = undefined::measure(host)?;
        let knobs = cpu::Knobs { faulting_iret_unblocks, delivery_clears_ac, undefined, undefined_at_cpl3 };
        self.predictor = Predictor::new(knobs, self.vm.ram().len(), &writable);
        self.decode_live();
        if !self.vm.trap_msrs()? && self.guest.code.iter().any(|d| d.insn.mnemonic() == iced_x86::Mnemonic::Wrmsr) {
            return Err(Error::Limit(
                "its code holds WRMSR, and this KVM has no MSR filter (KVM_CAP_X86_MSR_FILTER) to notice it by".into(),
            ));
        }
        for number in WRITTEN_BY_KVM {
            if self.vm.msr(number)?.is_some_and(|value| value & 1 != 0) {
                return Err(Error::Contract(format!(
                    "its boot has KVM write to its memory (MSR {number:#x}), at times that no machine state holds: \
                     leave that off"
                )));
            }
        }
        if let Some(uses) = self.uses {
            let others = self.guest.code.iter().filter(|d| !uses.has(d.classes()));
            self.undeclared = others.map(|d| d.insn.ip()).collect();
        }
        self.vm.carry_lazy(self.uses.unwrap_or_else(|| self.guest.code.classes()))?;
        self.idt = Idt::read(self.memory(), self.vm.state());
        Ok(())
    }

    /// Decodes the code that lies in memory now, where it is not that of the file: a kernel
    /// may have patched itself while it booted.
    fn decode_live(&mut self) {
        let (ram, image) = (self.vm.ram().bytes(), &self.guest.image);
        let same =
            image.segments.iter().filter(|s| s.exec).all(|s| live(ram, image, s.vaddr) == image.code_at(s.vaddr));
        if !same {
            let code = Code::of_bytes(image, |start| live(ram, image, start));
            self.guest = self.guest.with_code(code);
        }
    }

    /// The guest has written where nothing is carried, at the instruction that RIP is at or
    /// after.
    pub(super) fn wrote_unseen(&self, paddr: u64) -> Error {
        Error::Contract(format!(
            "it writes outside its writable segments: physical {paddr:#x}, near {}. That memory is not part of the \
             state that the lab carries: let a writable segment (PT_LOAD with PF_W) cover it",
            self.place(self.rip())
        ))
    }

    /// Reads the IDT anew where another state was put here: a run before may have loaded or
    /// written another, and the model does not ask at each step.
    pub fn settle_in(&mut self) {
        if std::mem::take(&mut self.restored) {
            self.follow_idt();
        }
    }

    /// Reads the IDT anew where it is another, or holds something else.
    pub(super) fn follow_idt(&mut self) {
        if !self.idt.is_current(self.memory(), self.vm.state()) {
            self.idt = Idt::read(self.memory(), self.vm.state());
        }
    }

    /// The guest as its boot has left it: with other code than its file where it patched
    /// itself.
    pub fn live_guest(&self) -> Arc<crate::image::Guest> {
        Arc::clone(&self.guest)
    }
}

/// The bytes in RAM from virtual address `start` to the end of what the file has of its
/// segment.
fn live<'a>(ram: &'a [u8], image: &Image, start: u64) -> Option<&'a [u8]> {
    let s = image.segments.iter().find(|s| s.exec && start.wrapping_sub(s.vaddr) < s.file_size)?;
    let at = |vaddr: u64| (vaddr - s.vaddr + s.paddr) as usize;
    ram.get(at(start)..at(s.vaddr + s.file_size))
}

/// Pages, as the stretches that they form: ascending and apart.
fn stretches(pages: &[u64]) -> Vec<Range<u64>> {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut out: Vec<Range<u64>> = Vec::new();
    for page in sorted {
        match out.last_mut() {
            Some(last) if last.end == page => last.end = page + 4096,
            _ => out.push(page..page + 4096),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_touch_are_one_stretch() {
        let pages = [0x3000, 0x1000, 0x2000, 0x2000, 0x9000];
        assert_eq!(stretches(&pages), vec![0x1000..0x4000, 0x9000..0xa000]);
        assert_eq!(stretches(&[]), vec![]);
    }
}
