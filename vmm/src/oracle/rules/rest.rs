//! At rest (I12): after the return of an outermost NMI nothing is blocked, flagged or
//! poisoned. Flagged (I13): at any other time, either.

use crate::machine::Machine;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// At the return of an outermost NMI, where no other is about to be delivered.
    pub(in crate::oracle) fn check_at_rest(&mut self, machine: &Machine, outer: &Context) {
        if machine.pending() {
            return;
        }
        if machine.blocked() {
            self.breaks(Invariant::AtRest, |r| {
                format!("NMIs are still blocked after the return to {}", r.names().show(outer.rip()))
            });
        }
        self.check_idle(machine, Invariant::AtRest, "with no NMI live");
    }

    /// An NMI arrives while none is live.
    pub(in crate::oracle) fn check_not_flagged(&mut self, machine: &Machine) {
        if !machine.pending() {
            self.check_idle(machine, Invariant::Flagged, "at the arrival of an NMI with none live");
        }
    }

    /// The scenario ends.
    pub(in crate::oracle) fn check_idle_at_end(&mut self, machine: &Machine) {
        self.check_idle(machine, Invariant::Flagged, "at the scenario's end");
    }

    /// What the scheme declares to be idle is as it was at *ready*.
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
}
