//! Atomicity (I19): a return that failed has done nothing but what the model says.

use super::verdict::Invariant;
use super::watch::Oracle;
use crate::machine::Machine;

impl Oracle {
    /// The machine stands at the handler of a fault that an iretq raised, and the model has
    /// taken note: B and P are its.
    pub(super) fn check_failed_return(&mut self, machine: &Machine) {
        let (b, p) = (self.ghost.blocked, self.ghost.pending);
        let is = (machine.blocked(), machine.pending());
        if is != (b, p) {
            self.breaks(Invariant::I19, |r| {
                let at = r.names().show(machine.rip());
                let (is_b, is_p) = is;
                format!("an iretq faulted (at {at} now): blocked {is_b}, pending {is_p}; the model says {b}, {p}")
            });
        }
    }
}
