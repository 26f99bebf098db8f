//! Latch (I1): an NMI that arrives is delivered at the first boundary that permits it; until
//! then one is remembered, however many come.

use crate::machine::Machine;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// At a boundary: the machine's latch is the model's.
    pub(in crate::oracle) fn check_latch(&mut self, machine: &Machine) {
        let (is, model) = (machine.pending(), self.ghost.pending);
        if is != model {
            let at = machine.rip();
            self.breaks(Invariant::Latch, |r| {
                format!("at {} an NMI is latched: {is}; the model says {model}", r.names().show(at))
            });
        }
    }
}
