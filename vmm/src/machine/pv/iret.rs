//! `HYPERVISOR_iret`: everything is validated before anything is committed.

use guest::abi::{self, Frame, IretContext};

use super::outcome::{Outcome, Refusal};
use super::selector::Segments;
use super::state::{KernelSide, Pv};
use crate::cpu::{is_canonical, rflags};
use crate::kvm::VcpuState;
use crate::machine::memory::GuestMemory;

/// A return that is going to happen.
struct Return {
    context: IretContext,
    /// The code and stack segments to load; `None` keeps the current ones.
    segments: Option<Segments>,
    /// It is the ring switch: to user mode, on the user's page table.
    to_user: bool,
}

impl Pv {
    /// `do_iret`.
    pub(super) fn iret(&mut self, state: &mut VcpuState, mem: &GuestMemory, from: u64) -> Outcome {
        let Some(words) = mem.words::<9>(state.sregs.cr3, state.regs.rsp) else {
            return Outcome::Crashed(format!("iret hypercall: the frame at {:#x} cannot be read", state.regs.rsp));
        };
        let [rax, r11, rcx, flags, rip, cs, rflags, rsp, ss] = words;
        let context = IretContext { rax, r11, rcx, flags, frame: Frame { rip, cs, rflags, rsp, ss } };
        let to_user = context.frame.cs & 3 == 3;
        if to_user && self.user_root == 0 {
            return Outcome::Crashed("iret hypercall: to user mode, and there is no user page table".into());
        }
        match check(state, mem, context, to_user) {
            Ok(r) => self.commit(state, r, from),
            Err(why) => Outcome::Refused(Refusal::protection(why)),
        }
    }

    fn commit(&mut self, state: &mut VcpuState, r: Return, from: u64) -> Outcome {
        let context_at = state.regs.rsp.wrapping_add(32);
        let c = &r.context;
        if r.to_user {
            let sregs = &state.sregs;
            self.kernel = Some(KernelSide { root: sregs.cr3, cs: sregs.cs.selector, ss: sregs.ss.selector });
            state.sregs.cr3 = self.user_root;
            self.swap_gs(state);
        }
        if let Some(segments) = r.segments {
            segments.commit(state);
        }
        let regs = &mut state.regs;
        regs.rax = c.rax;
        regs.rip = c.frame.rip;
        regs.rsp = c.frame.rsp;
        regs.rflags = flags_of(c.frame.rflags);
        match (c.flags & abi::VGCF_IN_SYSCALL != 0, r.to_user) {
            (false, _) => (regs.r11, regs.rcx) = (c.r11, c.rcx),
            // SYSRET, which takes RIP and RFLAGS from these two and has no RF.
            (true, true) => {
                regs.rflags &= !rflags::RF;
                (regs.r11, regs.rcx) = (regs.rflags, regs.rip);
            }
            (true, false) => {}
        }
        let unmasked = !self.callbacks.explicit_unmask || c.flags & abi::IRET_UNMASK_NMI != 0;
        if unmasked {
            self.pop_mask();
        }
        let (cs, ss) = (u64::from(state.sregs.cs.selector), u64::from(state.sregs.ss.selector));
        let frame = Frame { cs, ss, ..c.frame };
        Outcome::Resumed { frame, context_at, from, unmasked: unmasked && !self.masked }
    }
}

fn check(state: &VcpuState, mem: &GuestMemory, context: IretContext, to_user: bool) -> Result<Return, &'static str> {
    let frame = &context.frame;
    if !is_canonical(frame.rip) {
        return Err("RIP is not canonical");
    }
    if frame.rflags & rflags::VM != 0 {
        return Err("RFLAGS.VM is set");
    }
    // A system call's return discards CS and SS. (Xen leaves by SYSRET, to user mode
    // only; to the kernel it keeps the caller's.)
    let discards = context.flags & abi::VGCF_IN_SYSCALL != 0;
    let segments = match discards && !to_user {
        true => None,
        false => Some(Segments::load(state, mem, frame.cs, frame.ss).map_err(|r| r.why)?),
    };
    Ok(Return { context, segments, to_user })
}

/// RFLAGS that a guest may choose: not IOPL, NT and VM, nor the reserved ones.
const CHOSEN: u64 = 0x0025_0fd5;

/// RFLAGS as a return loads them from a frame.
fn flags_of(saved: u64) -> u64 {
    saved & CHOSEN | rflags::FIXED
}
