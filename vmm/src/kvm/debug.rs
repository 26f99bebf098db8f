//! Guest debugging and single ioctls on the vCPU, for what measures a host. A run
//! of the lab needs none of it.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug,
    kvm_guest_debug_arch,
};

use super::{Error, Exit, Vm};

/// What `KVM_SET_GUEST_DEBUG` is to watch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debug {
    /// Nothing stops the guest.
    Off,
    /// The end of the next instruction.
    Step,
    /// The instruction at this linear address, by DR0.
    Breakpoint(u64),
    /// INT3 of the guest exits.
    Int3,
}

/// DR7: breakpoint 0 globally enabled, on execution (SDM vol. 3, 17.2.4).
const DR7_EXECUTE_0: u64 = 1 << 10 | 1 << 1;

impl Vm {
    /// Sets what the next runs exit for. Loads the general registers first, since
    /// KVM arms the trap flag for the RIP that it knows.
    pub fn guest_debug(&mut self, debug: Debug) -> Result<(), Error> {
        self.vcpu().set_regs(&self.state().regs.into()).map_err(Error::ioctl("KVM_SET_REGS"))?;
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

    /// Loads the state, lets KVM enter and leave at once, and stores the state: no
    /// instruction is executed.
    pub fn run_at_once(&mut self) -> Result<Exit, Error> {
        self.set_immediate_exit(true);
        let exit = self.run();
        self.set_immediate_exit(false);
        exit
    }
}
