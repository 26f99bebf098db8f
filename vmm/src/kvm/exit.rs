//! Why a `KVM_RUN` returned, without KVM's unions.

use kvm_ioctls::VcpuExit;

/// Why the vCPU stopped. RIP and all other registers are in [`super::Vm::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A HLT was executed; RIP is the instruction after it.
    Hlt,
    /// An OUT was executed; RIP is the instruction after it, on every host.
    Out {
        /// Port number.
        port: u16,
        /// Value written, zero-extended.
        value: u32,
    },
    /// An IN wants a value from a port. Nothing in the lab answers one.
    In {
        /// Port number.
        port: u16,
    },
    /// An access to an address without memory.
    Mmio {
        /// Guest-physical address.
        addr: u64,
        /// Whether it is a write.
        write: bool,
        /// What is written, zero-extended; 0 for a read.
        value: u64,
    },
    /// The guest has lowered its task priority by CR8, so that an interrupt may be due.
    TaskPriority,
    /// An interrupt could be taken now. Only where that was asked for.
    InterruptWindow,
    /// A WRMSR to a register that is not part of the state; RIP is still at it. Only where
    /// they were asked for.
    WriteMsr {
        /// Its number.
        index: u32,
        /// The value.
        data: u64,
    },
    /// An RDMSR of time; RIP is still at it. Only where they were asked for.
    ReadMsr {
        /// Its number.
        index: u32,
    },
    /// One of Xen's hypercalls; RIP is the instruction after it, on every host. Only
    /// where they were asked for.
    XenHypercall {
        /// Its number: RAX.
        number: u64,
    },
    /// Triple fault, or a reset.
    Shutdown,
    /// A debug exception that `KVM_SET_GUEST_DEBUG` asked for.
    Debug {
        /// Linear address it is about.
        pc: u64,
        /// DR6 as the hardware would show it.
        dr6: u64,
    },
    /// KVM could not go on (`KVM_EXIT_INTERNAL_ERROR`).
    InternalError {
        /// `KVM_INTERNAL_ERROR_…`; 1 is a failed emulation.
        suberror: u32,
        /// The instruction's bytes where KVM tells them, else zeros.
        bytes: [u8; 15],
    },
    /// The watchdog, or a signal, interrupted the run.
    Interrupted,
    /// Any other exit, by its number in linux/kvm.h.
    Other(u32),
}

impl Exit {
    /// Whether KVM has the rest of an instruction still to do.
    pub fn is_half_done(self) -> bool {
        matches!(self, Exit::In { .. } | Exit::Mmio { .. } | Exit::WriteMsr { .. } | Exit::ReadMsr { .. })
    }

    /// From what kvm-ioctls says. `None` for those whose details it leaves out.
    pub(super) fn of(exit: VcpuExit<'_>) -> Option<Self> {
        Some(match exit {
            VcpuExit::Hlt => Exit::Hlt,
            VcpuExit::Intr => Exit::Interrupted,
            VcpuExit::Shutdown => Exit::Shutdown,
            VcpuExit::IoOut(port, data) => {
                let mut value = [0; 4];
                value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
                Exit::Out { port, value: u32::from_le_bytes(value) }
            }
            VcpuExit::IoIn(port, _) => Exit::In { port },
            VcpuExit::MmioRead(addr, _) => Exit::Mmio { addr, write: false, value: 0 },
            VcpuExit::MmioWrite(addr, data) => {
                let mut value = [0; 8];
                value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
                Exit::Mmio { addr, write: true, value: u64::from_le_bytes(value) }
            }
            VcpuExit::SetTpr => Exit::TaskPriority,
            VcpuExit::IrqWindowOpen => Exit::InterruptWindow,
            VcpuExit::Debug(arch) => Exit::Debug { pc: arch.pc, dr6: arch.dr6 },
            VcpuExit::X86Rdmsr(exit) => Exit::ReadMsr { index: exit.index },
            VcpuExit::X86Wrmsr(exit) => Exit::WriteMsr { index: exit.index, data: exit.data },
            _ => return None,
        })
    }
}
