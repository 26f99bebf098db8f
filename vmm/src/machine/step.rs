//! One instruction, and a run from one boundary to another, by the stops of `patch.rs`.

use super::error::Error;
use super::hv_bug::HvBug;
use super::lab::Machine;
use super::memory::GuestMemoryMut;
use super::predictor::Engine;
use super::stop::Stop;
use super::transport::Transport;
use crate::cpu::{SHADOW_MOV_SS, SHADOW_STI, rflags};
use crate::image::code::{Code, Decoded, Flow};

/// Stops of its own that a free run makes, at most: one that goes round through them is looked at
/// by the caller.
const MOST_STOPS: u32 = 1_000;

impl Machine {
    /// The instruction that comes next, or `None` where its bytes are not mapped or
    /// are no instruction.
    pub fn next_instruction(&self) -> Option<Decoded> {
        let rip = self.rip();
        // KVM's stubs are not those of the image.
        let page = self.guest.image.declared.hypercalls.filter(|_| self.transport() == Transport::Xen);
        let stub = page.is_some_and(|page| rip.wrapping_sub(page) < 4096);
        let bits = if self.state().sregs.cs.l == 0 { 32 } else { 64 };
        let cr3 = self.state().sregs.cr3;
        // What was decoded at *ready* holds where it is mapped, and in memory that cannot be
        // written since.
        let decoded = self.guest.code.at(rip).filter(|d| !stub && d.is_of(bits));
        if let Some(d) = decoded
            && let Some(paddr) = self.guest.image.fixed_paddr(rip)
            && super::paging::translate(self.memory().0, cr3, rip) == Some(paddr)
        {
            return Some(*d);
        }
        let mut bytes = [0; 15];
        let len = (1..=15).rev().find(|n| self.memory().read(cr3, rip, &mut bytes[..*n]))?;
        Code::decode(bits, &bytes[..len], rip)
    }

    /// Executes one instruction, or takes the exception that it raises.
    ///
    /// The possible successors are decoded from the instruction and stopped at: one
    /// KVM_RUN, no trap flag in the guest, no NMI window opened by the stepping.
    pub fn step(&mut self) -> Result<Stop, Error> {
        if self.engine() == Engine::Model
            && let Some(stop) = self.predict_step()?
        {
            return Ok(stop);
        }
        self.follow_idt();
        let Some(d) = self.next_instruction() else {
            // It cannot be fetched or decoded: only a handler can come next.
            self.patch_handlers_but(self.rip());
            return self.resume_patched();
        };
        if self.waits() {
            return Ok(self.wake());
        }
        self.see(&d)?;
        let before = self.state().regs;
        let shadow = self.state().events.interrupt.shadow;
        let rip = before.rip;
        let next = d.insn.next_ip();
        if let Some(why) = self.cannot_trap(&d) {
            return Ok(Stop::Failed(why));
        }
        if self.at_user_syscall() {
            return Ok(self.user_syscall(next));
        }
        let target = match d.flow {
            Flow::Next | Flow::Trap | Flow::Halt => None,
            Flow::Syscall => self.user.map(|user| user.lstar),
            Flow::To(target) | Flow::Either(target) => Some(target),
            Flow::Indirect => self.indirect_target(&d),
            Flow::Return | Flow::Iret => self.memory().word(self.state().sregs.cr3, before.rsp),
            Flow::Sysret => Some(before.rcx),
            Flow::Repeat => return self.step_repeat(&d),
        };
        if target == Some(rip) {
            return self.step_to_self(&d);
        }
        let falls_through = !matches!(d.flow, Flow::To(_) | Flow::Indirect | Flow::Return | Flow::Iret | Flow::Sysret);
        if falls_through {
            self.patch(next);
        }
        if let Some(target) = target {
            self.patch(target);
        }
        self.patch_handlers_but(rip);
        if self.touches_patches(&d) {
            return self.step_unpatched();
        }
        let popped_flags = match d.flow {
            Flow::Iret => self.memory().word(self.state().sregs.cr3, before.rsp.wrapping_add(16)),
            _ => None,
        };
        let (blocked, cpl) = (self.state().events.nmi.masked != 0, self.state().sregs.cs.selector & 3);
        let stop = self.resume_patched()?;
        if let Some(why) = self.strayed(&stop, &d, target) {
            return Ok(Stop::Failed(why));
        }
        if stop == Stop::Boundary {
            let faulted = self.faulted(target, &before, d.flow);
            if !faulted {
                self.drop_segments(&d, cpl);
            }
            self.settle(&d, (before.rflags, shadow), popped_flags.filter(|_| !faulted));
            match self.knobs.hv_bug {
                _ if !blocked || d.flow != Flow::Iret => {}
                Some(HvBug::FailedIretLeavesBlocked) if faulted => self.vm.state_mut().events.nmi.masked = 1,
                _ if faulted => self.apply_iret_knob(),
                Some(HvBug::IretKeepsBlocked) => self.vm.state_mut().events.nmi.masked = 1,
                Some(HvBug::VnmiPendingReadsBlocked) if self.latched => self.vm.state_mut().events.nmi.masked = 1,
                _ => {}
            }
        }
        self.unblock_early();
        Ok(stop)
    }

    /// A step of an instruction whose operand lies where a stop would: code that reads or writes
    /// code. The model executes it, with no stop in the way.
    fn step_unpatched(&mut self) -> Result<Stop, Error> {
        self.unpatch();
        match self.predict_step()? {
            Some(stop) => Ok(stop),
            None => {
                Ok(Stop::Failed("an instruction that touches code, and that the model of the CPU does not know".into()))
            }
        }
    }

    /// A return to an outer level makes the segments null that it may not use. kvm_pvm leaves
    /// them; once that was seen, free runs stop at returns, too. The golden run, which is stepped,
    /// sees it first.
    fn drop_segments(&mut self, d: &Decoded, from: u16) {
        let to = self.state().sregs.cs.selector & 3;
        if matches!(d.flow, Flow::Iret | Flow::Return) && to > from {
            self.keeps_segments |= self.vm.state_mut().sregs.drop_segments(to as u8);
        }
    }

    /// The hypervisor's bug that unblocks NMIs while the iretq is still to come.
    fn unblock_early(&mut self) {
        let at_iret = |m: &Self| m.guest.code.at(m.rip()).is_some_and(|d| d.flow == Flow::Iret);
        if self.knobs.hv_bug == Some(HvBug::IretUnblocksEarly) && at_iret(self) {
            self.vm.state_mut().events.nmi.masked = 0;
        }
    }

    /// Whether a return ended in a fault's handler rather than at its target. Where
    /// the target is itself a handler's first instruction, RSP tells: a fault pushes.
    fn faulted(&self, target: Option<u64>, before: &crate::cpu::Regs, flow: Flow) -> bool {
        let at_handler = self.idt.vector_of(self.rip()).is_some_and(|v| v != 2);
        let returned = flow == Flow::Iret && target == Some(self.rip()) && {
            self.memory().word(self.state().sregs.cr3, before.rsp.wrapping_add(24)) == Some(self.state().regs.rsp)
        };
        at_handler && !returned
    }

    /// Puts back what the HLT at the stop consumed: shadows, and RF from a popped
    /// frame.
    ///
    /// Of several loads of SS in a row only the first casts a shadow (SDM vol. 3, 6.8.3: no more
    /// is guaranteed; KVM's emulator does it so).
    fn settle(&mut self, d: &Decoded, before: (u64, u8), popped_flags: Option<u64>) {
        let fell_through = self.rip() == d.insn.next_ip();
        let (flags_before, shadow_before) = before;
        let shadow = match () {
            () if fell_through && d.loads_ss() && shadow_before & SHADOW_MOV_SS == 0 => SHADOW_MOV_SS,
            () if fell_through && d.is_sti() && flags_before & rflags::IF == 0 => SHADOW_STI,
            () => 0,
        };
        let state = self.vm.state_mut();
        state.events.interrupt.shadow = shadow;
        if let Some(flags) = popped_flags {
            state.regs.rflags |= flags & rflags::RF;
        }
    }

    /// For an iretq that faulted while NMIs were blocked. It keeps them masked on
    /// kvm_pvm and unmasks them on kvm_amd and kvm_intel; the model's knob decides
    /// instead.
    fn apply_iret_knob(&mut self) {
        let unblocks = self.knobs.faulting_iret_unblocks;
        self.vm.state_mut().events.nmi.masked = (!unblocks).into();
    }

    fn indirect_target(&self, d: &Decoded) -> Option<u64> {
        let state = self.state();
        let far = d.insn.is_jmp_far_indirect() || d.insn.is_call_far_indirect();
        match d.insn.op0_kind() {
            iced_x86::OpKind::Register => register(&state.regs, d.insn.op0_register()),
            _ => {
                let at = d.insn.virtual_address(0, 0, |reg, _, _| match reg {
                    iced_x86::Register::GS => Some(state.sregs.gs.base),
                    iced_x86::Register::FS => Some(state.sregs.fs.base),
                    reg if reg.is_segment_register() => Some(0),
                    reg => register(&state.regs, reg),
                })?;
                // A far pointer holds its offset first, in the operand's size less a selector.
                let bytes = if far { d.insn.memory_size().size().checked_sub(2)? } else { 8 };
                let mut word = [0; 8];
                self.memory().read(state.sregs.cr3, at, word.get_mut(..bytes)?).then(|| u64::from_le_bytes(word))
            }
        }
    }

    /// One iteration of a repeated string instruction: NMIs are taken between
    /// iterations, so the boundary after it is the instruction itself.
    fn step_repeat(&mut self, d: &Decoded) -> Result<Stop, Error> {
        let (rip, count) = (self.rip(), self.state().regs.rcx);
        if count > 1 {
            self.vm.state_mut().regs.rcx = 1;
        }
        let flags = self.state().regs.rflags;
        self.patch(d.insn.next_ip());
        self.patch_handlers_but(rip);
        if self.touches_patches(d) {
            self.vm.state_mut().regs.rcx = count;
            return self.step_unpatched();
        }
        let stop = self.resume_patched()?;
        if count > 1 {
            let fell_through = stop == Stop::Boundary && self.rip() == d.insn.next_ip();
            let regs = &mut self.vm.state_mut().regs;
            if !fell_through {
                regs.rcx = count; // the iteration faulted
            } else {
                regs.rcx = count - 1;
                let zero = regs.rflags >> 6 & 1 != 0;
                let compares = matches!(
                    d.insn.mnemonic(),
                    iced_x86::Mnemonic::Cmpsb
                        | iced_x86::Mnemonic::Cmpsw
                        | iced_x86::Mnemonic::Cmpsd
                        | iced_x86::Mnemonic::Cmpsq
                        | iced_x86::Mnemonic::Scasb
                        | iced_x86::Mnemonic::Scasw
                        | iced_x86::Mnemonic::Scasd
                        | iced_x86::Mnemonic::Scasq
                );
                if !(compares && zero == d.insn.has_repne_prefix()) {
                    regs.rip = rip;
                    // What arrives between iterations pushes RF set (SDM vol. 3, 19.3.1.1).
                    regs.rflags |= rflags::RF;
                }
            }
        }
        if stop == Stop::Boundary {
            self.settle(d, (flags, 0), None);
        }
        Ok(stop)
    }

    /// An instruction whose target is itself: a stop there would never let it run.
    fn step_to_self(&mut self, d: &Decoded) -> Result<Stop, Error> {
        let state = self.state();
        let (rip, rsp, cr3, before_flags) = (state.regs.rip, state.regs.rsp, state.sregs.cr3, state.regs.rflags);
        match d.flow {
            // A jump to itself changes nothing but RF.
            Flow::To(_) if d.insn.mnemonic() == iced_x86::Mnemonic::Jmp => {
                self.clear_rf();
                self.vm.state_mut().events.interrupt.shadow = 0;
                Ok(Stop::Boundary)
            }
            Flow::Either(_) => {
                let taken = d.taken(state.regs.rflags).unwrap_or(state.regs.rcx != 1);
                if taken {
                    let state = self.vm.state_mut();
                    if d.insn.condition_code() == iced_x86::ConditionCode::None {
                        state.regs.rcx = state.regs.rcx.wrapping_sub(1); // loop
                    }
                    state.events.interrupt.shadow = 0;
                    self.clear_rf();
                    return Ok(Stop::Boundary);
                }
                self.patch(d.insn.next_ip());
                self.patch_handlers_but(rip);
                self.resume_patched()
            }
            // Lead it to a HLT elsewhere, then set RIP: a latched iretq to itself would
            // hang in KVM_RUN on kvm_amd.
            Flow::Return | Flow::Iret => {
                let Some(pad) = self.idt.some_stub() else {
                    return Ok(Stop::Failed("an iretq to itself, and no HLT stub in the IDT to lead it to".into()));
                };
                let popped_flags = self.memory().word(cr3, rsp.wrapping_add(16));
                let write = |m: &mut Self, word: u64| GuestMemoryMut(m.vm.ram_mut()).write_words(cr3, rsp, &[word]);
                write(self, pad);
                self.patch_handlers_but(rip);
                let stop = self.resume_patched()?;
                write(self, rip);
                if self.rip() != pad {
                    return Ok(stop);
                }
                self.vm.state_mut().regs.rip = rip;
                self.settle(d, (before_flags, 0), popped_flags.filter(|_| d.flow == Flow::Iret));
                Ok(Stop::Boundary)
            }
            // A call, or an indirect jump: no stop can be put at its target.
            _ => match self.predict_step()? {
                Some(stop) => Ok(stop),
                None => Ok(Stop::Failed("a branch to itself that the model of the CPU does not know".into())),
            },
        }
    }

    /// Runs freely until execution stands at one of `stops`, or stops for another
    /// reason. At least one instruction is executed.
    pub fn leg(&mut self, stops: &[u64]) -> Result<Stop, Error> {
        if self.engine() == Engine::Model {
            return self.predict_leg(stops);
        }
        for _ in 0..MOST_STOPS {
            self.follow_idt();
            let rip = self.rip();
            let here = stops.contains(&rip)
                || self.waits()
                || self.at_user_syscall()
                || self.page_fault_stop() == Some(rip)
                || self.keeps_segments && self.guest.code.irets().contains(&rip)
                || self.undeclared.contains(&rip)
                || self.next_instruction().is_some_and(|d| d.loads_ss() || d.is_sti() || d.must_be_seen());
            if here {
                // A stop at RIP itself would be hit at once: get past it first.
                let stop = self.step()?;
                let rip = self.rip();
                if stop != Stop::Boundary || stops.contains(&rip) {
                    return Ok(stop);
                }
                if self.in_shadow() {
                    continue; // this boundary is not asked for; the next may be
                }
            }
            for stop in stops {
                self.patch(*stop);
                // A stop behind `mov ss` or `sti` is reached by a step from it, which
                // knows the shadow that a free run would lose.
                if let Some(caster) = self.guest.code.shadow_caster(*stop) {
                    self.patch(caster);
                }
            }
            for i in 0..self.guest.code.seen().len() {
                self.patch(self.guest.code.seen()[i]);
            }
            for i in 0..self.undeclared.len() {
                self.patch(self.undeclared[i]);
            }
            if self.user.is_some() && self.pv().has_user_mode() {
                // The user's SYSCALLs are the hypervisor's.
                for i in 0..self.guest.code.syscalls().len() {
                    self.patch(self.guest.code.syscalls()[i]);
                }
            }
            for i in 0..self.halts.len() {
                self.patch(self.halts[i]);
            }
            if let Some(handler) = self.page_fault_stop() {
                self.patch(handler);
            }
            if self.keeps_segments {
                for i in 0..self.guest.code.irets().len() {
                    self.patch(self.guest.code.irets()[i]);
                }
            }
            // A run that does not end is looked at by the caller.
            let stop = self.resume_patiently(0)?;
            if !self.idt.is_current(self.memory(), self.vm.state()) {
                let at = self.place(rip);
                return Ok(Stop::Failed(format!(
                    "the IDT changed in a free run from {at}, so that faults in it may have gone unseen; the gear step \
                     decides"
                )));
            }
            self.unblock_early();
            if stop != Stop::Boundary || stops.contains(&self.rip()) {
                return Ok(stop);
            }
        }
        Ok(Stop::Interrupted)
    }
}

/// The value of a 64-bit general register.
pub fn register(regs: &crate::cpu::Regs, register: iced_x86::Register) -> Option<u64> {
    use iced_x86::Register::{R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
    Some(match register {
        RAX => regs.rax,
        RBX => regs.rbx,
        RCX => regs.rcx,
        RDX => regs.rdx,
        RSI => regs.rsi,
        RDI => regs.rdi,
        RBP => regs.rbp,
        RSP => regs.rsp,
        R8 => regs.r8,
        R9 => regs.r9,
        R10 => regs.r10,
        R11 => regs.r11,
        R12 => regs.r12,
        R13 => regs.r13,
        R14 => regs.r14,
        R15 => regs.r15,
        _ => return None,
    })
}
