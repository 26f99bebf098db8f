//! IA32_KERNEL_GS_BASE, which `swapgs` exchanges with GS's base and the sync-regs area
//! leaves out: it costs an ioctl to read and another to write.

use super::state::KernelGs;
use super::{Error, Vm};
use crate::cpu::msr;

impl Vm {
    /// From now on the register is part of the state: what was put there is loaded
    /// before a run, and what is there is read after it.
    ///
    /// With `always` it is read after every run. Without, only where a run begins or ends
    /// on another GS base than the present one: `swapgs` changes both or neither, so a
    /// guest that does not write the register itself has it unchanged otherwise.
    pub fn carry_kernel_gs(&mut self, always: bool) -> Result<(), Error> {
        let loaded = self.read_kernel_gs()?;
        let home = (!always).then_some(self.state.sregs.gs.base);
        self.state.kernel_gs = loaded;
        self.kernel_gs = KernelGs::Carried { loaded, home, away: always };
        Ok(())
    }

    /// Before a run.
    pub(super) fn load_kernel_gs(&mut self) -> Result<(), Error> {
        let (wanted, base) = (self.state.kernel_gs, self.state.sregs.gs.base);
        let KernelGs::Carried { loaded, home, away } = &mut self.kernel_gs else { return Ok(()) };
        *away = *home != Some(base);
        if *loaded == wanted {
            return Ok(());
        }
        *loaded = wanted;
        match self.set_msr(msr::KERNEL_GS_BASE, wanted)? {
            true => Ok(()),
            false => Err(Error::MissingCapability("IA32_KERNEL_GS_BASE")),
        }
    }

    /// After a run.
    pub(super) fn fetch_kernel_gs(&mut self) -> Result<(), Error> {
        let KernelGs::Carried { home, away, .. } = self.kernel_gs else { return Ok(()) };
        if away || home != Some(self.state.sregs.gs.base) {
            let loaded = self.read_kernel_gs()?;
            self.state.kernel_gs = loaded;
            self.kernel_gs = KernelGs::Carried { loaded, home, away };
        }
        Ok(())
    }

    /// Carries out a WRMSR that the guest has exited for, where the register is part of the
    /// state. The next KVM_RUN completes it: as if it were a #GP where the CPU refuses the
    /// value (SDM vol. 2, WRMSR). `false` for any other register.
    pub(super) fn write_msr_for_guest(&mut self, index: u32, data: u64) -> Result<bool, Error> {
        let lazy = crate::cpu::Msrs::index(index).is_some();
        if !lazy && ![msr::KERNEL_GS_BASE, msr::FS_BASE, msr::GS_BASE, msr::EFER].contains(&index) {
            return Ok(false);
        }
        let taken = !(index == msr::EFER && self.turns_long_mode(data)?) && self.set_msr(index, data)?;
        // kvm_pvm takes a write to IA32_SPEC_CTRL, and reads 0 afterwards: a register that keeps
        // nothing would make an NMI that loses it look right.
        if taken && lazy && self.msr(index)? != Some(data) {
            return Ok(false);
        }
        // The exit was KVM_EXIT_X86_WRMSR, so this is the union's member.
        self.vcpu.get_kvm_run().__bindgen_anon_1.msr.error = (!taken).into();
        if lazy {
            self.add_lazy_classes(crate::cpu::Classes { msr: true, ..Default::default() });
        }
        if let KernelGs::Carried { away, .. } = &mut self.kernel_gs {
            *away = true; // read after this run, whatever GS's base is then
        }
        Ok(true)
    }

    /// Carries out an RDMSR of time that the guest has exited for: #GP where this host has no such
    /// register, as without the exit.
    pub(super) fn read_msr_for_guest(&mut self, index: u32) -> Result<(), Error> {
        let value = self.msr(index)?;
        let rip = self.vcpu.sync_regs_mut().regs.rip;
        self.time_read.get_or_insert(rip);
        // The exit was KVM_EXIT_X86_RDMSR, so this is the union's member.
        let run = self.vcpu.get_kvm_run();
        run.__bindgen_anon_1.msr.error = value.is_none().into();
        run.__bindgen_anon_1.msr.data = value.unwrap_or_default();
        Ok(())
    }

    /// Where the guest has read time by RDMSR since this was last asked; the first, if there are
    /// more. Where writes of MSRs are trapped, and so these reads.
    pub fn take_time_read(&mut self) -> Option<u64> {
        self.time_read.take()
    }

    /// Whether a value of IA32_EFER would switch long mode on or off, which a guest that has paging
    /// enabled may not (SDM vol. 3, 2.2.1). KVM does not check what it is given from outside.
    fn turns_long_mode(&self, data: u64) -> Result<bool, Error> {
        const LME: u64 = 1 << 8;
        Ok(self.msr(msr::EFER)?.is_some_and(|now| (now ^ data) & LME != 0))
    }

    fn read_kernel_gs(&self) -> Result<u64, Error> {
        self.msr(msr::KERNEL_GS_BASE)?.ok_or(Error::MissingCapability("IA32_KERNEL_GS_BASE"))
    }
}
