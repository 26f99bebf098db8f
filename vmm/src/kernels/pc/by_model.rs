//! Instructions that a KVM which emulates CPL 0 does not know, executed by the lab's model of the CPU.

use super::Pc;
use crate::cpu::{End, Model, Ram, Untraced};

impl Pc {
    /// Executes the INT n at RIP.
    ///
    /// Host kvm_pvm, symptom KVM_EXIT_INTERNAL_ERROR with suberror 1 at CPL 0. What its delivery
    /// raises (a gate that is not present, a page of the stack that is not writable) is delivered in
    /// its place, with a frame that points at the INT n, as the CPU does it.
    pub(super) fn assist_software_interrupt(&mut self) -> bool {
        let Ok(lazy) = self.vm.whole_lazy() else { return false };
        self.vm.drop_exception();
        let mut cpu = self.state().cpu(&lazy);
        let mut log = Vec::new();
        let end = Model::default().step(&mut cpu, &mut Ram::new(self.vm.ram_mut(), &mut log), &mut Untraced);
        if !matches!(end, End::Delivered(_)) {
            let ram = self.vm.ram_mut();
            for access in log.iter().rev().filter(|access| access.write) {
                let (at, size) = (access.paddr as usize, usize::from(access.size));
                ram[at..at + size].copy_from_slice(&access.before.to_le_bytes()[..size]);
            }
            return false;
        }
        for access in log.iter().filter(|access| access.write) {
            self.note_written(access.paddr, access.size.into());
        }
        let state = self.vm.state_mut();
        (state.regs, state.sregs, state.events) = (cpu.regs, cpu.sregs, cpu.events);
        self.assists.int_n += 1;
        true
    }
}
