//! CR3 (I11): the body runs on a page table of the kernel's.
//!
//! An NMI that interrupts the kernel leaves the page table as it found it, with one exception:
//! where a kernel keeps a page table apart for user code, what interrupts user code, or the
//! kernel's last and first instructions around it, finds that table and must load the
//! kernel's; that of the same process, where each is declared to have one. That the very CR3 found
//! is given back is I6.

use crate::machine::Machine;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// A body begins, in an NMI that interrupted `outer`.
    pub(in crate::oracle) fn check_cr3(&mut self, machine: &Machine, outer: &Context) {
        let (cr3, before) = (machine.state().sregs.cr3, outer.cr3());
        let tables = &self.rules.tables;
        if tables.is_users(cr3) {
            self.breaks(Invariant::Cr3, |_| format!("the body runs on CR3 {cr3:#x}, which is a user's page table"));
        } else if !tables.may_be_kernels(cr3) {
            self.breaks(Invariant::Cr3, |_| format!("the body runs on CR3 {cr3:#x}, which is no declared kernel's"));
        } else if tables.is_of_another(cr3, before) {
            self.breaks(Invariant::Cr3, |_| {
                format!(
                    "the body runs on CR3 {cr3:#x}, a kernel's of another process than the interrupted CR3 {before:#x}"
                )
            });
        } else if outer.cpl() == 0 && !tables.is_users(before) && cr3 != before {
            self.breaks(Invariant::Cr3, |_| {
                format!("the body runs on CR3 {cr3:#x}; the interrupted kernel's is {before:#x}")
            });
        }
    }
}
