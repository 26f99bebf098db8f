//! The paravirtual side: the VMM owns the NMI mask and its latch, delivers by a
//! bounce frame, and implements the iret hypercall.
//!
//! Names, numbers and structures are Xen's where Xen has them
//! (xen/arch/x86/pv/iret.c, pv/callback.c, x86_64/entry.S). What is ours is the
//! explicit flag [`abi::IRET_UNMASK_NMI`]: Xen's own hypercall always unmasks. And
//! the guest's kernel runs at CPL0 here, not in ring 3.

use guest::abi::{self, Frame, IretContext};

use super::memory::{GuestMemory, GuestMemoryMut};
use crate::kvm::{VcpuState, rflags};

/// What the VMM keeps for a PV guest. Part of the machine's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pv {
    /// The registered NMI callback, 0 before registration.
    pub nmi_callback: u64,
    /// NMIs are masked.
    pub masked: bool,
    /// An NMI is latched (`v->nmi_pending`).
    pub pending: bool,
}

/// What a hypercall did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned to its caller; RAX holds the result.
    Returned,
    /// `HYPERVISOR_iret`: a context was resumed.
    Resumed {
        /// Its five words.
        frame: Frame,
        /// Where they stood.
        context_at: u64,
        /// The instruction that made the call.
        from: u64,
        /// The call unmasked NMIs.
        unmasked: bool,
    },
    /// It raised #GP at the call; registers and mask are unchanged.
    Refused(&'static str),
    /// The domain is killed.
    Crashed(String),
}

/// `-ENOSYS`, as hypercalls return it.
const ENOSYS: u64 = (-38i64) as u64;
/// `-EINVAL`.
const EINVAL: u64 = (-22i64) as u64;
/// `-EFAULT`.
const EFAULT: u64 = (-14i64) as u64;

/// Flags that the guest may not choose (Xen: IOPL and NT are cleared, VM is an
/// error, IF is forced; the lab's guest runs without interrupts, so IF stays).
const CLEARED: u64 = rflags::IOPL | rflags::NT;

impl Pv {
    /// Carries out the hypercall whose `OUT` the vCPU has just left.
    pub fn hypercall(&mut self, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Outcome {
        let result = match state.regs.rax {
            abi::HYPERCALL_IRET => return self.iret(state, &mem.shared()),
            abi::HYPERCALL_CALLBACK_OP => self.callback_op(state, &mem.shared()),
            _ => ENOSYS,
        };
        state.regs.rax = result;
        Outcome::Returned
    }

    fn callback_op(&mut self, state: &VcpuState, mem: &GuestMemory) -> u64 {
        let mut raw = [0u8; size_of::<abi::CallbackRegister>()];
        if state.regs.rdi != abi::CALLBACKOP_REGISTER {
            return ENOSYS;
        }
        if !mem.read(state.sregs.cr3, state.regs.rsi, &mut raw) {
            return EFAULT;
        }
        let kind = u16::from_le_bytes([raw[0], raw[1]]);
        let address = u64::from_le_bytes([raw[8], raw[9], raw[10], raw[11], raw[12], raw[13], raw[14], raw[15]]);
        if kind != abi::CALLBACKTYPE_NMI {
            return ENOSYS;
        }
        if !is_canonical(address) {
            return EINVAL;
        }
        self.nmi_callback = address;
        0
    }

    /// `do_iret`: everything is validated before anything is committed.
    fn iret(&mut self, state: &mut VcpuState, mem: &GuestMemory) -> Outcome {
        let Some(words) = mem.words::<9>(state.sregs.cr3, state.regs.rsp) else {
            return Outcome::Crashed(format!("iret hypercall: the frame at {:#x} cannot be read", state.regs.rsp));
        };
        let [rax, r11, rcx, flags, rip, cs, rflags_, rsp, ss] = words;
        let context = IretContext { rax, r11, rcx, flags, frame: Frame { rip, cs, rflags: rflags_, rsp, ss } };
        if let Err(why) = self.check(state, &context) {
            return Outcome::Refused(why);
        }
        let context_at = state.regs.rsp.wrapping_add(32);
        let from = state.regs.rip.wrapping_sub(2); // the OUT is two bytes long
        let regs = &mut state.regs;
        regs.rax = context.rax;
        if context.flags & abi::VGCF_IN_SYSCALL == 0 {
            (regs.r11, regs.rcx) = (context.r11, context.rcx);
        }
        regs.rip = context.frame.rip;
        regs.rsp = context.frame.rsp;
        regs.rflags = context.frame.rflags & !CLEARED | rflags::FIXED;
        let unmasked = context.flags & abi::IRET_UNMASK_NMI != 0;
        if unmasked {
            self.masked = false;
        }
        Outcome::Resumed { frame: context.frame, context_at, from, unmasked }
    }

    fn check(&self, state: &VcpuState, context: &IretContext) -> Result<(), &'static str> {
        let frame = &context.frame;
        if !is_canonical(frame.rip) {
            return Err("RIP is not canonical");
        }
        if frame.cs != u64::from(state.sregs.cs.selector) {
            return Err("CS is not the kernel's code segment");
        }
        if frame.ss != 0 && frame.ss != u64::from(state.sregs.ss.selector) {
            return Err("SS is not the kernel's data segment");
        }
        if frame.rflags & rflags::VM != 0 {
            return Err("RFLAGS.VM is set");
        }
        Ok(())
    }

    /// `create_bounce_frame`: delivers an NMI to the callback, from CPL0 on the
    /// current stack. `false` where no callback is registered or the stack is not
    /// mapped: then the NMI is lost, as it is in Xen.
    pub fn deliver(&mut self, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> bool {
        self.pending = false; // cleared before the frame is built, as in Xen
        if self.nmi_callback == 0 {
            return false;
        }
        let regs = &state.regs;
        let frame = [
            regs.rcx,
            regs.r11,
            regs.rip,
            u64::from(state.sregs.cs.selector),
            regs.rflags,
            regs.rsp,
            u64::from(state.sregs.ss.selector),
        ];
        let rsp = (regs.rsp & !15).wrapping_sub(frame.len() as u64 * 8);
        if !mem.write_words(state.sregs.cr3, rsp, &frame) {
            return false;
        }
        self.masked = true;
        state.regs.rsp = rsp;
        state.regs.rip = self.nmi_callback;
        state.regs.rflags &= !(rflags::TF | rflags::IF | rflags::RF | rflags::NT | rflags::VM);
        true
    }
}

/// Whether bits 63..47 are all equal (48-bit virtual addresses).
pub fn is_canonical(addr: u64) -> bool {
    let top = addr as i64 >> 47;
    top == 0 || top == -1
}
