//! Watches a run: what was delivered, what was returned from, what faulted.

use std::sync::Arc;

use guest::abi::Frame;

use super::body::frame_at;
use super::context::Context;
use super::frames::Live;
use super::ghost::Ghost;
use super::golden::Trap;
use super::resume::copy_pages;
use super::rules::Rules;
use super::verdict::{Invariant, Verdict};
use crate::image::Mode;
use crate::image::declare::{has_error_code, vector_name};
use crate::kvm::VcpuState;
use crate::machine::Machine;

/// Watches one run.
pub struct Oracle {
    pub(super) rules: Arc<Rules>,
    /// What it remembers.
    pub ghost: Ghost,
    /// The writable pages at the outermost delivery.
    pub(super) captured: Vec<u8>,
    /// Another number whenever `captured` becomes another.
    pub(super) capture_id: u64,
    /// Room for the pages now.
    pub(super) now: Vec<u8>,
    verdict: Option<Verdict>,
    /// Deepest use of each declared stack, in bytes.
    pub depth: Vec<u64>,
    /// #DBs and #GPs of the interrupted code, while the golden run is made.
    pub recorded: Option<Vec<Trap>>,
}

impl Oracle {
    /// For a run that begins at *ready*.
    pub fn new(rules: Arc<Rules>) -> Self {
        let depth = vec![0; rules.guest.image.declared.stacks.len()];
        Self {
            rules,
            ghost: Ghost::default(),
            captured: vec![],
            capture_id: 0,
            now: vec![],
            verdict: None,
            depth,
            recorded: None,
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Forgets the run, for another.
    pub fn reset(&mut self) {
        self.ghost = Ghost::default();
        self.verdict = None;
    }

    /// Puts back what `save` copied.
    pub fn restore(&mut self, ghost: &Ghost, captured: &[u8]) {
        self.captured.clear();
        self.captured.extend_from_slice(captured);
        self.capture_id += 1;
        self.restore_ghost(ghost);
    }

    /// Puts back a state of the episode whose capture is at hand, or of none.
    pub fn restore_ghost(&mut self, ghost: &Ghost) {
        self.ghost = *ghost;
        self.verdict = None;
    }

    /// The pages at the outermost delivery, where one is live.
    pub fn captured(&self) -> &[u8] {
        if self.ghost.outer.is_some() { &self.captured } else { &[] }
    }

    /// Changes words of the pages at hand into those of another episode.
    pub fn recapture(&mut self, words: impl Iterator<Item = (usize, u64)>) {
        for (index, value) in words {
            self.captured[index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        self.capture_id += 1;
    }

    /// A number that is the same as long as the pages at hand are.
    pub fn capture_id(&self) -> u64 {
        self.capture_id
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Takes the verdict out.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// Ends the run with a verdict, unless it has one already.
    pub fn conclude(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    pub(super) fn breaks(&mut self, invariant: Invariant, detail: impl FnOnce(&Rules) -> String) {
        if self.verdict.is_none() {
            self.verdict = Some(Verdict::Violation { invariant, detail: detail(&self.rules) });
        }
    }

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
            if !machine.pending() {
                self.check_idle(machine, Invariant::I13, "at the arrival of an NMI with none live");
            }
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
            self.ghost.frames.push(Live { addr, words, vector: 2 });
        }
    }

    /// A nested NMI came and went: its frame was pushed at `addr` and returned from.
    /// `false` where such a return would not be of a live frame.
    pub fn nested(&mut self, addr: u64, words: &Frame) -> bool {
        self.arrived();
        self.ghost.delivered();
        self.ghost.frames.push(Live { addr, words: *words, vector: 2 });
        self.ghost.blocked = false;
        self.ghost.frames.consume(addr, words)
    }

    /// The machine took a fault and stands at its handler's first instruction.
    pub fn faulted(&mut self, machine: &Machine, vector: u8, from_iret: bool) {
        if from_iret {
            self.ghost.blocked &= !self.rules.faulting_iret_unblocks;
            self.check_failed_return(machine);
        }
        let addr = machine.state().regs.rsp.wrapping_add(if has_error_code(vector) { 8 } else { 0 });
        let Some(words) = frame_at(machine, addr) else {
            return self
                .breaks(Invariant::I9, |_| format!("{}'s frame at {addr:#x} is not mapped", vector_name(vector)));
        };
        self.ghost.frames.push(Live { addr, words, vector });
        let declared = self.rules.scheme.faults.contains(&(vector, words.rip));
        if self.ghost.outer.is_none() {
            if matches!(vector, 1 | 13) && !declared {
                self.trapped(Trap { vector, rip: words.rip });
            }
        } else if self.ghost.bodies > 0 && !declared && matches!(vector, 1 | 13) {
            self.body_trapped(Trap { vector, rip: words.rip });
        } else if self.ghost.bodies == 0 && !declared && !(from_iret && self.rules.scenario.faults.contains(&vector)) {
            let cr2 = machine.state().sregs.cr2;
            self.breaks(Invariant::I18, |r| {
                let at = r.names().show(words.rip);
                let cr2 = if vector == 14 { format!(" (CR2 {cr2:#x})") } else { String::new() };
                format!("undeclared {} in entry or exit code at {at}{cr2}", vector_name(vector))
            });
        }
    }

    fn trapped(&mut self, trap: Trap) {
        if let Some(list) = &mut self.recorded {
            return list.push(trap);
        }
        let i = usize::from(self.ghost.traps);
        self.ghost.traps = self.ghost.traps.saturating_add(1);
        let expected = self.rules.golden.traps.get(i).copied();
        if expected != Some(trap) {
            self.breaks(Invariant::I16, |r| {
                let expected = expected.map_or("none".to_owned(), |t| t.show(r));
                format!("the interrupted code took {}; the golden run takes {expected} there", trap.show(r))
            });
        }
    }

    /// An exception went to a vector that the guest does not handle.
    pub fn undeclared(&mut self, machine: &Machine, vector: u8) {
        let addr = machine.state().regs.rsp.wrapping_add(if has_error_code(vector) { 8 } else { 0 });
        let from = frame_at(machine, addr).map(|f| f.rip);
        let cr2 = machine.state().sregs.cr2;
        self.breaks(Invariant::I18, |r| {
            let from = from.map_or("an unreadable frame".to_owned(), |rip| r.names().show(rip));
            let cr2 = if matches!(vector, 8 | 14) { format!(" (CR2 {cr2:#x})") } else { String::new() };
            format!("unhandled {} from {from}{cr2}", vector_name(vector))
        });
    }

    /// A return succeeded: it consumed `words` at `addr`, by iretq or, where
    /// `unblocks` is false, by an iret hypercall without the unmask flag.
    pub fn returned(&mut self, machine: &Machine, addr: u64, words: &Frame, unblocks: bool, from: u64) {
        if unblocks {
            self.ghost.blocked = false;
        }
        // What makes user code the kernel's is worse than where the frame came from.
        self.check_privilege(machine);
        // The frames of faults that the interrupted code took before the NMI are not
        // followed by every gear; I7 holds the memory they lie in.
        let live = self.ghost.outer.is_some();
        let repeat = self.rules.scheme.repeat.contains(&words.rip);
        let known = self.ghost.frames.consume(addr, words);
        if !known && repeat {
            self.ghost.frames.rewritten(addr, words);
        }
        if !known && live && !repeat {
            self.breaks(Invariant::I8, |r| {
                let (at, to) = (r.names().show(from), r.names().show(words.rip));
                format!(
                    "{at} consumed a frame at {addr:#x} that nobody delivered or declared (to {to}, RSP {:#x})",
                    words.rsp
                )
            });
        }
        let Some(outer) = self.ghost.outer else { return };
        let (rip, rsp) = (machine.rip(), machine.state().regs.rsp);
        let cpl = machine.state().sregs.cs.selector as u8 & 3;
        let back = rip == outer.rip() && rsp == outer.rsp();
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

    /// The machine stands at a boundary: the stack (I9), and whether latch and mask
    /// are what the model says (I1, I2).
    pub fn boundary(&mut self, machine: &Machine) {
        let state = machine.state();
        if state.sregs.cs.selector & 3 == 0 {
            self.check_privilege(machine);
            self.check_stack(state);
        }
        if machine.pending() != self.ghost.pending {
            let (is, model) = (machine.pending(), self.ghost.pending);
            let at = machine.rip();
            self.breaks(Invariant::I1, |r| {
                format!("at {} an NMI is latched: {is}; the model says {model}", r.names().show(at))
            });
        }
        if machine.blocked() != self.ghost.blocked {
            let (is, at) = (machine.blocked(), machine.rip());
            self.breaks(Invariant::I2, |r| {
                format!("at {} NMIs are blocked: {is}; the model says {}", r.names().show(at), !is)
            });
        }
    }

    fn check_stack(&mut self, state: &VcpuState) {
        let (rsp, rip) = (state.regs.rsp, state.regs.rip);
        let stacks = &self.rules.guest.image.declared.stacks;
        if stacks.is_empty() {
            return;
        }
        match stacks.iter().position(|s| s.range.start < rsp && rsp <= s.range.end) {
            Some(i) => self.depth[i] = self.depth[i].max(stacks[i].range.end - rsp),
            None if self.rules.guest.image.declared.aliases.iter().any(|a| a.contains(&rsp)) => {}
            None => self
                .breaks(Invariant::I9, |r| format!("RSP {rsp:#x} at {} is in no declared stack", r.names().show(rip))),
        }
    }
}
