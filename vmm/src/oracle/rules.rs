//! The rules I1–I18, applied to what a run does.

use std::ops::Range;
use std::sync::Arc;

use guest::abi::{Frame, Regs};

use super::context::Context;
use super::frames::Live;
use super::ghost::Ghost;
use super::golden::{Golden, Trap};
use super::verdict::{Invariant, Verdict};
use super::watched::Watched;
use crate::inject::Names;
use crate::kvm::VcpuState;
use crate::machine::declare::{Scenario, Scheme, has_error_code, vector_name};
use crate::machine::{Guest, Machine, Mode};

/// What a scheme and a scenario are held to; fixed for all their runs.
#[derive(Debug)]
pub struct Rules {
    /// The image.
    pub guest: Arc<Guest>,
    /// The scheme, as declared.
    pub scheme: Scheme,
    /// The scenario, as declared.
    pub scenario: Scenario,
    /// What a faulting IRET does to B in the model.
    pub faulting_iret_unblocks: bool,
    /// The memory that must not change.
    pub watched: Watched,
    /// Words with their values at *ready*.
    idle: Vec<(u64, u8)>,
    /// The GS base at *ready*.
    gs_base: u64,
    /// The run without NMIs; empty while it is being made.
    pub golden: Golden,
}

impl Rules {
    /// For a machine at *ready*.
    pub fn new(machine: &Machine, scheme: &Scheme, scenario: &Scenario) -> Self {
        let guest = Arc::clone(machine.guest());
        let scratch: Vec<Range<u64>> = guest
            .image
            .declared
            .scratch
            .iter()
            .filter(|s| s.scheme.as_ref().is_none_or(|name| *name == scheme.name))
            .map(|s| s.range.clone())
            .collect();
        let cr3 = machine.state().sregs.cr3;
        let byte = |at: u64| {
            let mut b = [0];
            machine.memory().read(cr3, at, &mut b).then_some((at, b[0]))
        };
        Self {
            watched: Watched::new(machine, &scratch),
            idle: scheme.idle.iter().cloned().flatten().filter_map(byte).collect(),
            gs_base: machine.state().sregs.gs.base,
            faulting_iret_unblocks: machine.knobs().faulting_iret_unblocks,
            golden: Golden::default(),
            scheme: scheme.clone(),
            scenario: scenario.clone(),
            guest,
        }
    }

    /// The GS base at *ready*: the kernel's.
    pub fn gs_base(&self) -> u64 {
        self.gs_base
    }

    /// Names of addresses, as this scheme's users write them.
    pub fn names(&self) -> Names<'_> {
        Names::new(&self.guest, &self.scheme.prefix)
    }

    /// The declared stack that `rsp` points into. An empty stack's RSP is its top.
    fn stack_of(&self, rsp: u64) -> Option<&Range<u64>> {
        self.guest.image.declared.stacks.iter().map(|s| &s.range).find(|r| r.start < rsp && rsp <= r.end)
    }

    /// The bytes below `rsp` on its stack that nobody may rely on.
    fn dead(&self, rsp: u64) -> Range<u64> {
        let keep = if self.scenario.redzone { 128 } else { 0 };
        match self.stack_of(rsp) {
            Some(stack) => stack.start..(rsp - keep).max(stack.start),
            None => rsp..rsp,
        }
    }

    /// The same for an interrupted context. While user code runs, the stack that it
    /// would enter the kernel on is empty; of its own memory nothing is dead.
    fn dead_under(&self, machine: &Machine, context: &Context) -> Range<u64> {
        match context.cpl() {
            3 => {
                let top = machine.entry_sp();
                self.stack_of(top).map_or(top..top, |stack| stack.start..top)
            }
            _ => self.dead(context.rsp()),
        }
    }
}

/// Watches one run.
pub struct Oracle {
    rules: Arc<Rules>,
    /// What it remembers.
    pub ghost: Ghost,
    /// The writable pages at the outermost delivery.
    captured: Vec<u8>,
    /// Another number whenever `captured` becomes another.
    capture_id: u64,
    /// Room for the pages now.
    now: Vec<u8>,
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
                let show = |t: Trap| format!("{} at {}", vector_name(t.vector), r.names().show(t.rip));
                let expected = expected.map_or("none".to_owned(), show);
                format!("the interrupted code took {}; the golden run takes {expected} there", show(trap))
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
        if cpl == outer.cpl() && (back || past) || cpl > outer.cpl() {
            self.resumed(machine, &outer);
        }
    }

    /// The interrupted context goes on: I6, I7, I12, and I5 for a body left behind.
    fn resumed(&mut self, machine: &Machine, outer: &Context) {
        let now = Context::of(machine.state());
        if let Some((name, was, is)) = outer.difference(&now) {
            self.breaks(Invariant::I6, |r| {
                let show = |v: u64| if name == "RIP" { r.names().show(v) } else { format!("{v:#x}") };
                format!(
                    "{name} was {} at the interruption of {}, and is {} at resume",
                    show(was),
                    r.names().show(outer.rip()),
                    show(is)
                )
            });
        }
        self.check_served(machine, outer);
        copy_pages(machine, &mut self.now);
        let dead = self.rules.dead_under(machine, outer);
        self.compare_memory(true, &dead);
        if self.ghost.bodies != 0 {
            self.breaks(Invariant::I5, |r| format!("resumed {} with a body still active", r.names().show(outer.rip())));
        }
        if !machine.pending() {
            if machine.blocked() {
                self.breaks(Invariant::I12, |r| {
                    format!("NMIs are still blocked after the return to {}", r.names().show(outer.rip()))
                });
            }
            self.check_idle(machine, Invariant::I12, "with no NMI live");
        }
        self.ghost.end_episode();
    }

    fn check_idle(&mut self, machine: &Machine, rule: Invariant, when: &str) {
        let cr3 = machine.state().sregs.cr3;
        for i in 0..self.rules.idle.len() {
            let (at, was) = self.rules.idle[i];
            let mut is = [0];
            if !machine.memory().read(cr3, at, &mut is) || is[0] != was {
                return self.breaks(rule, |r| {
                    format!("{} is {:#x} {when}; at ready it was {was:#x}", r.names().show_data(at), is[0])
                });
            }
        }
    }

    /// Compares `self.now` with the capture, or with the golden run's end.
    fn compare_memory(&mut self, resume: bool, dead: &Range<u64>) {
        let before = if resume { &self.captured } else { &self.rules.golden.pages };
        let Some(at) = self.rules.watched.difference(before, &self.now, dead) else { return };
        let (was, is) = (before[at], self.now[at]);
        self.breaks(Invariant::I7, |r| {
            let place = r.watched.vaddr(at).map_or("?".to_owned(), |v| r.names().show_data(v));
            let when = if resume { "at the interruption" } else { "at the golden run's end" };
            format!("memory outside scratch changed: {place} was {was:#04x} {when}, and is {is:#04x}")
        });
    }

    /// A body announces itself with the registers it was given.
    pub fn body_begins(&mut self, machine: &Machine) {
        let nested = self.ghost.bodies > 0;
        let answered = self.ghost.body_begins();
        let at = machine.state().regs.rdi;
        if nested {
            return self.breaks(Invariant::I5, |_| "a body begins while another is active".to_owned());
        }
        if !answered {
            self.breaks(Invariant::I4, |_| "a body runs though every delivery has had its body".to_owned());
        }
        let Some(outer) = self.ghost.outer else {
            return self.breaks(Invariant::I4, |_| "a body runs with no NMI live".to_owned());
        };
        let Some(view) = regs_at(machine, at) else {
            return self.breaks(Invariant::I14, |_| format!("the body's registers at {at:#x} are not mapped"));
        };
        // An NMI that is taken for a first one while the last one's exit is still to be
        // done may be shown what it interrupted itself, which is no lie.
        let own = self.ghost.frames.nested() == Some(&view.frame);
        if let Some((name, was, shown)) = outer.difference_in_view(&view).filter(|_| !own) {
            self.breaks(Invariant::I14, |r| {
                let show = |v: u64| if name == "RIP" { r.names().show(v) } else { format!("{v:#x}") };
                format!("the body is shown {name} {}; the interrupted context has {}", show(shown), show(was))
            });
        }
        let (cr3, before) = (machine.state().sregs.cr3, outer.cr3());
        if outer.cpl() == 0 && cr3 != before {
            self.breaks(Invariant::I11, |_| {
                format!("the body runs on CR3 {cr3:#x}; the interrupted kernel's is {before:#x}")
            });
        }
        let base = machine.state().sregs.gs.base;
        if base != self.rules.gs_base {
            self.breaks(Invariant::I10, |r| {
                format!("the body runs on GS base {base:#x}; the kernel's is {:#x}", r.gs_base)
            });
        }
    }

    /// A body ends.
    pub fn body_ends(&mut self) {
        match self.ghost.bodies.checked_sub(1) {
            Some(n) => self.ghost.bodies = n,
            None => self.breaks(Invariant::I5, |_| "a body ends that has not begun".to_owned()),
        }
    }

    /// The scenario reports its end.
    pub fn scenario_ends(&mut self, machine: &Machine) {
        if self.ghost.outer.is_some() {
            return self.breaks(Invariant::I6, |_| {
                "the scenario ended inside an NMI: its context was never resumed".to_owned()
            });
        }
        if self.ghost.owed {
            return self.breaks(Invariant::I3, |_| "an NMI arrived and no body run began after it".to_owned());
        }
        let checksum = machine.state().regs.rdi;
        if checksum != self.rules.golden.checksum {
            self.breaks(Invariant::I7, |r| {
                format!("the work's checksum is {checksum:#x}; the golden run's is {:#x}", r.golden.checksum)
            });
        }
        self.check_idle(machine, Invariant::I13, "at the scenario's end");
        if usize::from(self.ghost.traps) != self.rules.golden.traps.len() {
            let n = self.ghost.traps;
            self.breaks(Invariant::I16, |r| {
                format!("the interrupted code took {n} #DB or #GP; the golden run takes {}", r.golden.traps.len())
            });
        }
        copy_pages(machine, &mut self.now);
        let dead = self.rules.dead(machine.state().regs.rsp);
        self.compare_memory(false, &dead);
        self.conclude(Verdict::Pass);
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
            None => self
                .breaks(Invariant::I9, |r| format!("RSP {rsp:#x} at {} is in no declared stack", r.names().show(rip))),
        }
    }
}

fn copy_pages(machine: &Machine, out: &mut Vec<u8>) {
    out.clear();
    let ram = machine.memory().0;
    for page in machine.pages() {
        out.extend_from_slice(&ram[*page as usize..*page as usize + 4096]);
    }
}

/// The five words at `addr`. A selector is 16 bits wide; what else a frame keeps in its
/// slot (Xen's event mask, FRED's event) is not part of the context.
pub fn frame_at(machine: &Machine, addr: u64) -> Option<Frame> {
    let [rip, cs, rflags, rsp, ss] = machine.memory().words(machine.state().sregs.cr3, addr)?;
    Some(Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff })
}

fn regs_at(machine: &Machine, addr: u64) -> Option<Regs> {
    let words = machine.memory().words::<21>(machine.state().sregs.cr3, addr)?;
    let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, rip, cs, rflags, rsp, ss] =
        words;
    let frame = Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff };
    Some(Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, frame })
}
