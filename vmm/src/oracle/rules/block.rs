//! Block (I2): a delivery blocks NMIs. A return unblocks them, or what the model says; a
//! popf, a ret or a jmp never does.

use crate::machine::Machine;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// At a boundary: the machine's mask is the model's.
    pub(in crate::oracle) fn check_block(&mut self, machine: &Machine) {
        let (is, model) = (machine.blocked(), self.ghost.blocked);
        if is != model {
            let at = machine.rip();
            self.breaks(Invariant::Block, |r| {
                format!("at {} NMIs are blocked: {is}; the model says {model}", r.names().show(at))
            });
        }
    }
}
