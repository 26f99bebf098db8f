//! Privilege (I15): what user code is, CPL0 never executes; an NMI that interrupts it is
//! never taken for a nested one.

use crate::machine::Machine;
use crate::machine::paging::is_user;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// At a boundary: CPL0 is not about to execute a page that user code can.
    pub(in crate::oracle) fn check_privilege(&mut self, machine: &Machine) {
        let state = machine.state();
        let rip = state.regs.rip;
        if self.rules().scenario.ring3
            && state.sregs.cs.selector & 3 == 0
            && is_user(machine.memory().0, state.sregs.cr3, rip)
        {
            self.breaks(Invariant::Privilege, |r| format!("CPL0 executes user memory, at {}", r.names().show(rip)));
        }
    }

    /// At the return of an outermost NMI: where it interrupted user code, a body has run
    /// since it came. No NMI can have been live then, so nothing excuses that. (One that came
    /// to the kernel's code later, and was not served, is I3's.)
    pub(in crate::oracle) fn check_served(&mut self, machine: &Machine, outer: &Context) {
        if outer.cpl() == 3 && self.ghost.owed && !self.ghost.served && !machine.pending() {
            self.breaks(Invariant::Privilege, |r| {
                let at = r.names().show(outer.rip());
                format!("an NMI that interrupted user code at {at} was taken for a nested one: no body ran")
            });
        }
    }
}
