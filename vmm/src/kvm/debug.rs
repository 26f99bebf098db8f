//! Guest debugging and single ioctls on the vCPU, for what measures a host. A run
//! of the lab needs none of it.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, Msrs,
    kvm_guest_debug, kvm_guest_debug_arch, kvm_msr_entry,
};

use super::{Error, Exit, Vm};

/// What `KVM_SET_GUEST_DEBUG` is to watch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    /// Nothing.
    Off,
    /// The end of the next instruction.
    Step,
    /// The instruction at this linear address, by DR0.
    Breakpoint(u64),
    /// INT3.
    Int3,
}

/// DR7: breakpoint 0 globally enabled, on execution (SDM vol. 3, 17.2.4).
const DR7_EXECUTE_0: u64 = 1 << 10 | 1 << 1;

impl Vm {
    /// Sets what the next runs exit for. Loads the general registers first, since
    /// KVM arms the trap flag for the RIP that it knows.
    pub fn guest_debug(&mut self, debug: Debug) -> Result<(), Error> {
        self.vcpu().set_regs(&self.state().regs).map_err(Error::ioctl("KVM_SET_REGS"))?;
        let mut arch = kvm_guest_debug_arch::default();
        let control = match debug {
            Debug::Off => 0,
            Debug::Step => KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
            Debug::Int3 => KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
            Debug::Breakpoint(addr) => {
                arch.debugreg[0] = addr;
                arch.debugreg[7] = DR7_EXECUTE_0;
                KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP
            }
        };
        let request = kvm_guest_debug { control, pad: 0, arch };
        self.vcpu().set_guest_debug(&request).map_err(Error::ioctl("KVM_SET_GUEST_DEBUG"))
    }

    /// Writes a model-specific register.
    pub fn set_msr(&mut self, index: u32, data: u64) -> Result<(), Error> {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        let refused = |why| Error::Ioctl { call: "KVM_SET_MSRS", errno: std::io::Error::other(why) };
        let msrs = Msrs::from_entries(&[entry]).map_err(|e| refused(format!("{e:?}")))?;
        match self.vcpu().set_msrs(&msrs).map_err(Error::ioctl("KVM_SET_MSRS"))? {
            1 => Ok(()),
            _ => Err(refused(format!("MSR {index:#x} was refused"))),
        }
    }

    /// Loads the state, lets KVM enter and leave at once, and stores the state: no
    /// instruction is executed.
    pub fn run_at_once(&mut self) -> Result<Exit, Error> {
        self.set_immediate_exit(true);
        let exit = self.run();
        self.set_immediate_exit(false);
        exit
    }
}
