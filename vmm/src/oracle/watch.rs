//! Watches a run: what was delivered, what was returned from, what faulted; and asks the
//! rules at each such event.

use guest::abi::Frame;

use super::context::Context;
use super::frames::Live;
use super::judge::Oracle;
use super::rules::memory::Since;
use super::verdict::Verdict;
use crate::image::vectors::has_error_code;
use crate::image::{Mode, Trap};
use crate::machine::Machine;

impl Oracle {
    /// An NMI arrives.
    pub fn arrived(&mut self) {
        self.ghost.owed = true;
        self.ghost.pending = true;
    }

    /// NMIs are unblocked from outside.
    pub fn unmasked(&mut self) {
        self.ghost.blocked = false;
    }

    /// An NMI was delivered: `before` is the context it interrupted, the machine
    /// stands at the handler's first instruction.
    pub fn delivered(&mut self, machine: &Machine, before: &Context) {
        self.ghost.delivered();
        if self.ghost.outer.is_none() {
            self.check_not_flagged(machine);
            self.ghost.outer = Some(*before);
            self.ghost.frames.begin_episode();
            copy_pages(machine, &mut self.captured);
            self.capture_id += 1;
        }
        let state = machine.state();
        let addr = match machine.mode() {
            Mode::Native => state.regs.rsp,
            Mode::Pv => state.regs.rsp.wrapping_add(machine.pv().frame_offset()),
        };
        if let Some(words) = frame_at(machine, addr) {
            self.ghost.frames.push(Live::nmi(addr, words));
        }
    }

    /// An event from outside that is no NMI was delivered: `before` is the context it came to, the
    /// machine stands at the handler's first instruction.
    pub fn external(&mut self, machine: &Machine, before: &Context, vector: u8) {
        let addr = machine.state().regs.rsp;
        let Some(words) = frame_at(machine, addr) else { return self.frame_is_unmapped(vector, addr) };
        self.ghost.external_begins(*before, Live::external(addr, words, vector));
    }

    /// The machine took a fault and stands at its handler's first instruction.
    pub fn faulted(&mut self, machine: &Machine, vector: u8, from_iret: bool) {
        if from_iret {
            self.ghost.blocked &= !self.rules.faulting_iret_unblocks;
            self.check_failed_return(machine);
        }
        let addr = machine.state().regs.rsp.wrapping_add(if has_error_code(vector) { 8 } else { 0 });
        let Some(words) = frame_at(machine, addr) else { return self.frame_is_unmapped(vector, addr) };
        self.ghost.frames.push(Live::fault(addr, words, vector));
        let (trap, compared) = (Trap { vector, rip: words.rip }, matches!(vector, 1 | 13));
        if self.rules.scheme.faults.contains(&trap) {
            return;
        }
        match (self.ghost.outer, self.ghost.bodies) {
            (None, _) if compared => self.check_trap(trap),
            (Some(_), 0) if !(from_iret && self.rules.scenario.faults.contains(&vector)) => {
                self.undeclared_fault(machine, vector, &words);
            }
            (Some(_), 1..) if compared => self.check_body_trap(trap),
            _ => {}
        }
    }

    /// A body announces itself with the registers it was given.
    pub fn body_begins(&mut self, machine: &Machine) {
        let nested = self.ghost.bodies > 0;
        let answered = self.ghost.body_begins();
        self.check_no_reentry(nested);
        self.check_bound(answered);
        let Some(outer) = self.ghost.outer else { return };
        self.check_view(machine, &outer, machine.state().regs.rdi);
        self.check_cr3(machine, &outer);
        self.check_gs(machine);
        self.check_environment(machine);
    }

    /// A body ends.
    pub fn body_ends(&mut self) {
        self.check_all_body_traps();
        self.check_body_was_active();
    }

    /// A return succeeded: it consumed `words` at `addr`, by iretq or, where
    /// `unblocks` is false, by an iret hypercall without the unmask flag.
    pub fn returned(&mut self, machine: &Machine, addr: u64, words: &Frame, unblocks: bool, from: u64) {
        if unblocks {
            self.ghost.blocked = false;
        }
        // What makes user code the kernel's is worse than where the frame came from.
        self.check_privilege(machine);
        self.check_provenance(addr, words, from);
        // Where an older frame was returned from, its handler was left, as `ret` leaves one.
        if let Some(context) = self.ghost.external_is_over()
            && context.frame() == *words
        {
            self.check_context(&context, &Context::of(machine.state()));
        }
        let Some(outer) = self.ghost.outer else { return };
        let (rip, rsp) = (machine.rip(), machine.state().regs.rsp);
        let cpl = machine.state().sregs.cs.selector as u8 & 3;
        let back = (rip == outer.rip() || self.rules.may_resume(outer.rip(), rip)) && rsp == outer.rsp();
        // The interrupted RSP may point into the very stack that the NMI was pushed to,
        // where a user chose it: then being above it means nothing.
        let chosen = self.ghost.frames.outermost().is_some_and(|f| f.addr >= outer.rsp());
        let past = rsp >= outer.rsp()
            && !chosen
            && self.rules.stack_of(outer.rsp()).is_some_and(|s| s.start < rsp && rsp <= s.end);
        // No handler of NMIs runs in ring 3: whatever returns there ends them all.
        if cpl == 3 || cpl == outer.cpl() && (back || past) {
            self.resumed(machine, &outer);
        }
    }

    /// Whether the context that an event from outside came to stands here. Its handler may have
    /// returned by `ret`, too, which unblocks nothing.
    pub fn external_goes_on(&self, machine: &Machine) -> bool {
        let state = machine.state();
        let cpl = u64::from(state.sregs.cs.selector & 3);
        self.ghost.in_external() && self.ghost.frames.external_goes_on(state.regs.rip, state.regs.rsp, cpl)
    }

    /// The interrupted context goes on.
    fn resumed(&mut self, machine: &Machine, outer: &Context) {
        self.check_context(outer, &Context::of(machine.state()));
        self.check_served(machine, outer);
        copy_pages(machine, &mut self.now);
        let mut dead = vec![self.rules.dead_under(machine, outer)];
        if outer.cpl() == 3 {
            dead.extend(self.rules.dead_in_user());
        }
        self.check_memory(Since::Interruption, &dead);
        self.check_no_body_is_left(outer);
        self.check_at_rest(machine, outer);
        self.ghost.end_episode();
    }

    /// The machine stands at a boundary.
    pub fn boundary(&mut self, machine: &Machine) {
        let state = machine.state();
        if self.external_goes_on(machine) {
            self.ghost.frames.pop();
            if let Some(context) = self.ghost.external_is_over() {
                self.check_context(&context, &Context::of(state));
            }
        }
        if state.sregs.cs.selector & 3 == 0 {
            self.check_privilege(machine);
            self.check_stack(state);
        }
        self.check_left_by_return(state);
        self.check_latch(machine);
        self.check_block(machine);
    }

    /// The scenario reports its end.
    pub fn scenario_ends(&mut self, machine: &Machine) {
        self.check_resumed();
        self.check_service();
        self.check_checksum(machine.state().regs.rdi);
        self.check_idle_at_end(machine);
        self.check_all_traps();
        copy_pages(machine, &mut self.now);
        let mut dead = vec![self.rules.dead(machine.state().regs.rsp)];
        dead.extend(self.rules.dead_in_user());
        self.check_memory(Since::GoldenEnd, &dead);
        self.conclude(Verdict::Pass);
    }
}

/// The five words at `addr`. A selector is 16 bits wide; what else a frame keeps in its
/// slot (Xen's event mask, FRED's event) is not part of the context.
pub(super) fn frame_at(machine: &Machine, addr: u64) -> Option<Frame> {
    let [rip, cs, rflags, rsp, ss] = machine.memory().words(machine.state().sregs.cr3, addr)?;
    Some(Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff })
}

fn copy_pages(machine: &Machine, out: &mut Vec<u8>) {
    out.clear();
    let ram = machine.memory().0;
    for page in machine.pages() {
        out.extend_from_slice(&ram[*page as usize..*page as usize + 4096]);
    }
}
