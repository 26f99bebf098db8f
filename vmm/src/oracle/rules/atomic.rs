//! Atomicity (I19): a return that failed has done nothing but what the model says.

use crate::machine::Machine;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// The machine stands at the handler of a fault that an iretq raised, and the model has
    /// taken note: B and P are its.
    pub(in crate::oracle) fn check_failed_return(&mut self, machine: &Machine) {
        let (b, p) = (self.ghost.blocked, self.ghost.pending);
        let is = (machine.blocked(), machine.pending());
        if is != (b, p) {
            self.breaks(Invariant::Atomicity, |r| {
                let at = r.names().show(machine.rip());
                let (is_b, is_p) = is;
                format!("an iretq faulted (at {at} now): blocked {is_b}, pending {is_p}; the model says {b}, {p}")
            });
        }
    }
}
