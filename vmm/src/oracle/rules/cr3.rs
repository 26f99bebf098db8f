//! CR3 (I11): the body of an NMI that interrupted the kernel runs on the page table that it
//! found. That the interrupted code gets its own back is I6.

use crate::machine::Machine;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// A body begins, in an NMI that interrupted `outer`.
    pub(in crate::oracle) fn check_cr3(&mut self, machine: &Machine, outer: &Context) {
        let (cr3, before) = (machine.state().sregs.cr3, outer.cr3());
        if outer.cpl() == 0 && cr3 != before {
            self.breaks(Invariant::Cr3, |_| {
                format!("the body runs on CR3 {cr3:#x}; the interrupted kernel's is {before:#x}")
            });
        }
    }
}
