//! Help for hosts whose KVM cannot run a kernel natively. Each piece acts on its
//! symptom alone; on a complete KVM none is ever seen to.

use super::user;
use crate::cpu::rflags;
use crate::kernels::pc::{Pc, Stop};
use crate::kvm::MSR_LSTAR;

/// Whether, and how often, the host needed help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Assists {
    /// int3 executed for it.
    pub int3: u64,
    /// fwait skipped for it.
    pub fwait: u64,
    /// SYSCALL's switch to CPL 0 completed for it.
    pub syscall: u64,
    /// OUT of the user program executed for it.
    pub user_out: u64,
    /// Whether the kernel was given [`HOST_WORDS`] on its command line.
    pub command_line: bool,
}

impl std::fmt::Display for Assists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::default() {
            return f.write_str("none");
        }
        let words = if self.command_line { "words on the command line, " } else { "" };
        let Self { int3, fwait, syscall, user_out, .. } = self;
        write!(f, "{words}int3 executed {int3}, fwait skipped {fwait}, SYSCALL completed {syscall}, ")?;
        write!(f, "OUT at CPL 3 executed {user_out} times")
    }
}

/// Whether the CPU does a thing from ring 3 by itself here: SYSCALL arrives at CPL 0, OUT
/// reaches the VMM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kernels) enum Native {
    /// None was seen yet.
    #[default]
    Unknown,
    /// It does.
    Complete,
    /// It does not, and is completed here.
    Assisted,
}

/// Words for the command line of a kernel on a host that shows more CPUID features
/// than it was told to.
///
/// Host kvm_pvm: CPL 0 is emulated, and of these features' instructions the emulator
/// knows none (symptom: KVM_EXIT_INTERNAL_ERROR, suberror 1), yet CPUID says they are
/// there whatever KVM_SET_CPUID2 said. Linux takes numbers (word * 32 + bit): smap,
/// smep, umip, xsave, fsgsbase, erms, fsrm, rdrand, rdseed, popcnt, sse4_2, ssse3,
/// invpcid, cx16; and for the crypto code sse4_1, aes, pclmulqdq, sha_ni, gfni, vaes,
/// vpclmulqdq. Kernels before 5.10 take one number only, and cannot be helped so.
///
/// The init calls (a self-test, certificates, tracing's tables) do nothing for the NMI
/// path, and take seconds to minutes where each instruction is emulated.
pub const HOST_WORDS: &str = "clearcpuid=308,295,514,154,288,297,580,158,306,151,148,137,298,141,147,153,129,317,520,521,522 \
    initcall_blacklist=blake2s_mod_init,load_system_certificate_list,trace_eval_init,trace_eval_sync,\
    init_kprobes,ftrace_check_sync,ftrace_check_for_weak_functions";

impl Pc {
    /// Executes what KVM's emulator could not, where the lab knows how.
    ///
    /// Host kvm_pvm, symptom KVM_EXIT_INTERNAL_ERROR with suberror 1 at CPL 0, and the
    /// #UD that KVM queues along with it.
    pub(in crate::kernels) fn assist_emulation(&mut self, bytes: [u8; 15]) -> bool {
        let rip = self.rip();
        let mut first = [bytes[0]];
        if bytes == [0; 15] {
            self.memory().read(self.state().sregs.cr3, rip, &mut first);
        }
        match first[0] {
            0xcc => self.assists.int3 += 1,
            0x9b => self.assists.fwait += 1,
            _ => return false,
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

    /// At the first instruction of the #PF handler: if this fault is the fetch of a
    /// SYSCALL's target at CPL 3, completes that SYSCALL.
    ///
    /// Host kvm_pvm: SYSCALL from native ring 3 sets RIP, RCX, R11 and RFLAGS, but
    /// leaves CPL 3 (symptom: a #PF whose frame has RIP == LSTAR, a user's CS, and an
    /// instruction fetch by the user as its error).
    pub(in crate::kernels) fn assist_syscall(&mut self) -> bool {
        let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        let Some([error, rip, cs, flags, user_rsp, _]) = self.memory().words::<6>(cr3, rsp) else { return false };
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
    pub(in crate::kernels) fn assist_out(&mut self) -> Option<Stop> {
        let (regs, cr3) = (self.state().regs, self.state().sregs.cr3);
        let [error, rip, cs, flags, user_rsp, ss] = self.memory().words::<6>(cr3, regs.rsp)?;
        if cs & 3 != 3 || error != 0 {
            return None;
        }
        let mut opcode = [0];
        self.memory().read(cr3, rip, &mut opcode);
        let stop = match (opcode[0], regs.rdx as u16) {
            (0xee, user::MARK) => Stop::Mark,
            (0xef, user::HEARTBEAT) => Stop::Heartbeat(regs.rax as u32),
            _ => return None,
        };
        let segment =
            crate::cpu::Segment { limit: 0xffff_ffff, type_: 3, present: 1, dpl: 3, s: 1, g: 1, ..Default::default() };
        let state = self.vm.state_mut();
        state.sregs.cs = crate::cpu::Segment { selector: cs as u16, type_: 11, l: 1, ..segment };
        state.sregs.ss = crate::cpu::Segment { selector: ss as u16, db: 1, ..segment };
        (state.regs.rip, state.regs.rsp) = (rip + 1, user_rsp);
        state.regs.rflags = flags & !rflags::RF;
        self.user_out = Native::Assisted;
        self.assists.user_out += 1;
        Some(stop)
    }

    /// IA32_LSTAR, read once the kernel has set it.
    fn lstar(&mut self) -> Option<u64> {
        if self.lstar.is_none() {
            self.lstar = self.vm.msr(MSR_LSTAR).ok().flatten().filter(|lstar| *lstar != 0);
        }
        self.lstar
    }
}
