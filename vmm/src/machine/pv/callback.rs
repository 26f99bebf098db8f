//! What a guest registers: callbacks, the kernel's stack, the user's page table.

use guest::abi;

use super::outcome::{EFAULT, EINVAL, ENOSYS};
use super::state::Pv;
use crate::cpu::is_canonical;
use crate::kvm::VcpuState;
use crate::machine::memory::GuestMemory;

impl Pv {
    /// `do_callback_op`.
    pub(super) fn callback_op(&mut self, state: &VcpuState, mem: &GuestMemory) -> u64 {
        let (op, cr3, at) = (state.regs.rdi, state.sregs.cr3, state.regs.rsi);
        match op {
            abi::CALLBACKOP_REGISTER => match mem.words::<2>(cr3, at) {
                Some([head, address]) => self.register(head as u16, (head >> 16) as u16, address),
                None => EFAULT,
            },
            abi::CALLBACKOP_UNREGISTER => match mem.word(cr3, at) {
                Some(head) => self.unregister(head as u16),
                None => EFAULT,
            },
            _ => ENOSYS,
        }
    }

    fn register(&mut self, kind: u16, flags: u16, address: u64) -> u64 {
        if !is_canonical(address) {
            return EINVAL;
        }
        let known = match kind {
            abi::CALLBACKTYPE_NMI => abi::CALLBACKF_MASK_EVENTS | abi::CALLBACKF_EXPLICIT_UNMASK,
            _ => abi::CALLBACKF_MASK_EVENTS,
        };
        if flags & !known != 0 {
            return EINVAL;
        }
        let callbacks = &mut self.callbacks;
        let mut masks = |bit: u8| {
            let on = flags & abi::CALLBACKF_MASK_EVENTS != 0;
            callbacks.masks_events = callbacks.masks_events & !bit | if on { bit } else { 0 };
        };
        match kind {
            abi::CALLBACKTYPE_EVENT => callbacks.event = address,
            abi::CALLBACKTYPE_FAILSAFE => {
                masks(1);
                callbacks.failsafe = address;
            }
            abi::CALLBACKTYPE_SYSCALL => {
                masks(2);
                callbacks.syscall = address;
            }
            abi::CALLBACKTYPE_NMI => {
                self.register_nmi(address);
                self.callbacks.explicit_unmask = flags & abi::CALLBACKF_EXPLICIT_UNMASK != 0;
            }
            _ => return ENOSYS,
        }
        0
    }

    /// `register_guest_nmi_callback`: "if no handler was registered we can 'lose the NMI
    /// edge'. Re-assert it now."
    fn register_nmi(&mut self, address: u64) {
        self.callbacks.nmi = address;
        if std::mem::take(&mut self.unserved) {
            self.raise();
        }
    }

    fn unregister(&mut self, kind: u16) -> u64 {
        match kind {
            abi::CALLBACKTYPE_EVENT | abi::CALLBACKTYPE_FAILSAFE | abi::CALLBACKTYPE_SYSCALL => EINVAL,
            abi::CALLBACKTYPE_NMI => {
                self.callbacks.nmi = 0;
                self.callbacks.explicit_unmask = false;
                0
            }
            _ => ENOSYS,
        }
    }

    /// `do_nmi_op`: the older way to register.
    pub(super) fn nmi_op(&mut self, state: &VcpuState, mem: &GuestMemory) -> u64 {
        match state.regs.rdi {
            abi::XENNMI_REGISTER_CALLBACK => match mem.words::<2>(state.sregs.cr3, state.regs.rsi) {
                Some([address, _]) => self.register(abi::CALLBACKTYPE_NMI, 0, address),
                None => EFAULT,
            },
            abi::XENNMI_UNREGISTER_CALLBACK => self.unregister(abi::CALLBACKTYPE_NMI),
            _ => ENOSYS,
        }
    }

    /// `do_stack_switch`: RDI the stack's selector, which CPL0 needs not, RSI its top.
    pub(super) fn stack_switch(&mut self, state: &VcpuState) -> u64 {
        if !is_canonical(state.regs.rsi) {
            return EINVAL;
        }
        self.kernel_sp = state.regs.rsi;
        0
    }

    /// `do_set_segment_base`: RDI which (`SEGBASE_…`), RSI the base.
    pub(super) fn set_segment_base(&mut self, state: &mut VcpuState) -> u64 {
        let (which, base) = (state.regs.rdi, state.regs.rsi);
        let place = match which {
            abi::SEGBASE_FS => &mut state.sregs.fs.base,
            abi::SEGBASE_GS_USER => &mut self.other_gs,
            abi::SEGBASE_GS_KERNEL => &mut state.sregs.gs.base,
            _ => return EINVAL,
        };
        if !is_canonical(base) {
            return EINVAL;
        }
        *place = base;
        0
    }

    /// `do_mmuext_op`, of which there is MMUEXT_NEW_USER_BASEPTR, one at a time. RDI
    /// points to a `struct mmuext_op`: command and frame number.
    pub(super) fn mmuext_op(&mut self, state: &VcpuState, mem: &GuestMemory) -> u64 {
        if state.regs.rsi != 1 {
            return EINVAL;
        }
        let Some([cmd, mfn]) = mem.words::<2>(state.sregs.cr3, state.regs.rdi) else { return EFAULT };
        if cmd & 0xffff_ffff != abi::MMUEXT_NEW_USER_BASEPTR {
            return ENOSYS;
        }
        match mfn.checked_mul(4096).filter(|root| *root < mem.0.len() as u64) {
            Some(root) => {
                self.user_root = root;
                0
            }
            None => EINVAL,
        }
    }
}
