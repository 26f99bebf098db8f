//! Help for hosts whose KVM cannot run a kernel natively. Each piece acts on its
//! symptom alone; on a complete KVM none is ever seen to.

use super::assists::Native;
use super::machine::Pc;
use super::program;
use super::stop::Stop;
use crate::cpu::{Segment, is_canonical, msr, rflags};
use crate::kvm::VcpuState;

/// The flat code and stack segments of a 64-bit user, with these selectors. The stack that the lab's
/// program has in the LDT is of 16 bits.
pub(super) fn user_segments(cs: u16, ss: u16) -> (Segment, Segment) {
    let segment = Segment { limit: 0xffff_ffff, type_: 3, present: 1, dpl: 3, s: 1, g: 1, ..Default::default() };
    let db = (ss & 1 << 2 == 0).into();
    (Segment { selector: cs, type_: 11, l: 1, ..segment }, Segment { selector: ss, db, ..segment })
}

impl Pc {
    /// Executes what KVM's emulator could not, where the lab knows how.
    ///
    /// Host kvm_pvm, symptom KVM_EXIT_INTERNAL_ERROR with suberror 1 at CPL 0, and the
    /// #UD that KVM queues along with it.
    pub(super) fn assist_emulation(&mut self, bytes: [u8; 15]) -> bool {
        let rip = self.rip();
        let mut first = [bytes[0]];
        if bytes == [0; 15] && !self.read(rip, &mut first) {
            return false;
        }
        if let Some(len) = self.shadow_stack_nop(rip) {
            self.assists.rdssp += 1;
            self.vm.drop_exception();
            self.vm.state_mut().regs.rip += len;
            return true;
        }
        match first[0] {
            0xcc => self.assists.int3 += 1,
            0x9b => self.assists.fwait += 1,
            0xcd => return self.assist_software_interrupt(),
            _ => return self.assist_base() || self.assist_limit(),
        }
        self.vm.drop_exception();
        let state = self.vm.state_mut();
        state.regs.rip += 1;
        if first[0] == 0xcc {
            state.events.exception.injected = 1;
            state.events.exception.nr = 3;
        }
        true
    }

    /// The length of an instruction at `rip` that does nothing without shadow stacks (SDM vol. 2,
    /// RDSSP, ENDBR64), which a kernel may execute on any CPU.
    fn shadow_stack_nop(&self, rip: u64) -> Option<u64> {
        let mut bytes = [0; 5];
        let whole = self.read(rip, &mut bytes) || self.read(rip, &mut bytes[..4]);
        match bytes {
            [0xf3, 0x0f, 0x1e, 0xc8..=0xcf | 0xfa, _] if whole => Some(4),
            [0xf3, 0x40..=0x4f, 0x0f, 0x1e, 0xc8..=0xcf] if whole => Some(5),
            _ => None,
        }
    }

    /// Executes an instruction of FSGSBASE at RIP, if it is one.
    ///
    /// Hosts kvm_pvm whose emulator knows none of them, though CPUID shows the feature (symptom: as
    /// above). That on Linux 6.18 executes them by itself.
    fn assist_base(&mut self) -> bool {
        let Some(d) = self.next_instruction() else { return false };
        let done = move_base(&d.insn, self.vm.state_mut());
        if done {
            self.vm.drop_exception();
            self.assists.fsgsbase += 1;
        }
        done
    }

    /// At the first instruction of the #PF handler: if this fault is the fetch of a
    /// SYSCALL's target at CPL 3, completes that SYSCALL.
    ///
    /// Host kvm_pvm: SYSCALL from native ring 3 sets RIP, RCX, R11 and RFLAGS, but
    /// leaves CPL 3 (symptom: a #PF whose frame has RIP == LSTAR, a user's CS, and an
    /// instruction fetch by the user as its error).
    pub(super) fn assist_syscall(&mut self) -> bool {
        let rsp = self.state().regs.rsp;
        let Some([error, rip, cs, flags, user_rsp, _]) = self.words::<6>(rsp) else { return false };
        if cs & 3 != 3 || error & !0x10 != 5 || Some(rip) != self.lstar() {
            return false;
        }
        let state = self.vm.state_mut();
        let kernel_cs = state.sregs.cs.selector & !3;
        state.sregs.ss = crate::cpu::Segment {
            limit: 0xffff_ffff,
            selector: kernel_cs + 8, // SYSCALL loads SS with STAR's selector and 8
            type_: 3,
            present: 1,
            db: 1,
            s: 1,
            g: 1,
            ..Default::default()
        };
        (state.regs.rip, state.regs.rsp) = (rip, user_rsp);
        state.regs.rflags = flags & !rflags::RF;
        self.assists.syscall += 1;
        true
    }

    /// At the first instruction of the #GP handler: if this is about an OUT of the lab's
    /// user program, to whose ports the kernel has opened the I/O bitmap, executes it.
    ///
    /// Host QEMU's software SVM (kvm_amd on TCG): it looks at the I/O bitmap of a task
    /// state segment of type 9 only, never of a busy one, 11, which LTR makes of it
    /// (symptom: #GP at CPL 3 whose frame stands at that OUT). SDM vol. 1, 19.5.2.
    pub(super) fn assist_out(&mut self) -> Option<Stop> {
        let regs = self.state().regs;
        let [error, rip, cs, flags, user_rsp, ss] = self.words::<6>(regs.rsp)?;
        if cs & 3 != 3 || error != 0 {
            return None;
        }
        let mut opcode = [0];
        if !self.read(rip, &mut opcode) {
            return None;
        }
        let stop = match (opcode[0], regs.rdx as u16) {
            (0xee, program::MARK) => Stop::Mark,
            (0xee, program::LDT_MARK) => Stop::LdtMark,
            (0xef, program::HEARTBEAT) => Stop::Heartbeat(regs.rax as u32),
            _ => return None,
        };
        let state = self.vm.state_mut();
        (state.sregs.cs, state.sregs.ss) = user_segments(cs as u16, ss as u16);
        (state.regs.rip, state.regs.rsp) = (rip + 1, user_rsp);
        state.regs.rflags = flags & !rflags::RF;
        self.user_out = Native::Assisted;
        self.assists.user_out += 1;
        Some(stop)
    }

    /// IA32_LSTAR, read once the kernel has set it.
    pub(super) fn lstar(&mut self) -> Option<u64> {
        if self.lstar.is_none() {
            self.lstar = self.vm.msr(msr::LSTAR).ok().flatten().filter(|lstar| *lstar != 0);
        }
        self.lstar
    }
}

/// Carries out RDFSBASE, RDGSBASE, WRFSBASE or WRGSBASE; `false` where it is none of them, or where
/// the CPU would raise #GP.
fn move_base(insn: &iced_x86::Instruction, state: &mut VcpuState) -> bool {
    use iced_x86::Mnemonic::{Rdfsbase, Rdgsbase, Wrfsbase, Wrgsbase};
    let mask = if insn.op0_register().is_gpr32() { u64::from(u32::MAX) } else { u64::MAX };
    let n = insn.op0_register().number() as u8;
    let segment = match insn.mnemonic() {
        Rdfsbase | Wrfsbase => &mut state.sregs.fs,
        Rdgsbase | Wrgsbase => &mut state.sregs.gs,
        _ => return false,
    };
    let value = state.regs.gpr(n) & mask;
    match insn.mnemonic() {
        Rdfsbase | Rdgsbase => *state.regs.gpr_mut(n) = segment.base & mask,
        _ if !is_canonical(value) => return false,
        _ => segment.base = value,
    }
    state.regs.rip += insn.len() as u64;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_moved_as_by_the_cpu() {
        const HIGH: u64 = 0xffff_9234_5678_9000;
        let run = |bytes: &[u8], state: &mut VcpuState| {
            move_base(&crate::image::Code::decode(64, bytes, 0).unwrap().insn, state)
        };
        let mut state = VcpuState::default();
        state.regs.r9 = HIGH;
        assert!(run(&[0xf3, 0x49, 0x0f, 0xae, 0xd9], &mut state), "wrgsbase %r9");
        assert!(run(&[0xf3, 0x48, 0x0f, 0xae, 0xcb], &mut state), "rdgsbase %rbx");
        assert_eq!((state.sregs.gs.base, state.regs.rbx, state.regs.rip), (HIGH, HIGH, 10));
        assert!(run(&[0xf3, 0x41, 0x0f, 0xae, 0xd1], &mut state), "wrfsbase %r9d");
        assert!(run(&[0xf3, 0x0f, 0xae, 0xc1], &mut state), "rdfsbase %ecx");
        assert_eq!((state.sregs.fs.base, state.regs.rcx), (HIGH & 0xffff_ffff, HIGH & 0xffff_ffff));
        let before = state;
        assert!(!run(&[0x0f, 0x01, 0xf8], &mut state), "swapgs");
        state.regs.rax = 1 << 47;
        assert!(!run(&[0xf3, 0x48, 0x0f, 0xae, 0xd8], &mut state), "wrgsbase %rax, not canonical");
        assert_eq!(state.sregs.gs.base, before.sregs.gs.base);
    }
}
