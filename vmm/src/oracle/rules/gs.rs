//! GS (I10): the body runs on the kernel's GS base. That the interrupted code gets its own
//! back is I6.

use crate::machine::Machine;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// A body begins.
    pub(in crate::oracle) fn check_gs(&mut self, machine: &Machine) {
        let base = machine.state().sregs.gs.base;
        if base != self.rules.gs_base() {
            self.breaks(Invariant::Gs, |r| {
                format!("the body runs on GS base {base:#x}; the kernel's is {:#x}", r.gs_base())
            });
        }
    }
}
