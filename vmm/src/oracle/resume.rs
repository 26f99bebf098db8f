//! What must be as it was: at the return of an outermost NMI, and at the end.

use std::ops::Range;

use super::context::Context;
use super::verdict::{Invariant, Verdict};
use super::watch::Oracle;
use crate::machine::Machine;

impl Oracle {
    /// The interrupted context goes on: I6, I7, I12, and I5 for a body left behind.
    pub(super) fn resumed(&mut self, machine: &Machine, outer: &Context) {
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

    pub(super) fn check_idle(&mut self, machine: &Machine, rule: Invariant, when: &str) {
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
}

pub(super) fn copy_pages(machine: &Machine, out: &mut Vec<u8>) {
    out.clear();
    let ram = machine.memory().0;
    for page in machine.pages() {
        out.extend_from_slice(&ram[*page as usize..*page as usize + 4096]);
    }
}
