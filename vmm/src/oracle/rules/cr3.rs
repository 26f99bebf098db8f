//! CR3 (I11): the body runs on a page table of the kernel's.
//!
//! An NMI that interrupts the kernel leaves the page table as it found it, with one exception:
//! where a kernel keeps a page table apart for user code, what interrupts user code, or the
//! kernel's last and first instructions around it, finds that table and must load the
//! kernel's. That the very CR3 found is given back is I6.

use crate::image::Image;
use crate::machine::Machine;
use crate::machine::paging::{ROOT, lacks};
use crate::oracle::{Context, Golden, Invariant, Oracle};

/// Which page tables are the kernel's, and which are for user code.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The declared ones of the kernel. Empty: any that is not a user's is the kernel's.
    kernel: Vec<u64>,
    user: Vec<u64>,
}

impl Tables {
    /// Those that the manifest declares. Where it declares none, a table that user code runs on
    /// in the golden run is for user code if it lacks something that the kernel's table at
    /// *ready* maps.
    pub fn new(image: &Image, ready: &Machine, golden: &Golden) -> Self {
        let declared = &image.declared.page_tables;
        let roots = |list: &[u64]| list.iter().map(|root| image.paddr(*root).unwrap_or(*root)).collect::<Vec<_>>();
        let (kernel, mut user) = (roots(&declared.kernel), roots(&declared.user));
        if kernel.is_empty() && user.is_empty() {
            let (ram, kernels) = (ready.memory().0, ready.state().sregs.cr3);
            user = golden.user_roots.iter().copied().filter(|root| lacks(ram, *root, kernels)).collect();
        }
        Self { kernel, user }
    }

    /// Whether a CR3 is of a table for user code.
    fn is_users(&self, cr3: u64) -> bool {
        self.user.contains(&(cr3 & ROOT))
    }

    /// Whether a CR3 may be the kernel's.
    fn may_be_kernels(&self, cr3: u64) -> bool {
        !self.is_users(cr3) && (self.kernel.is_empty() || self.kernel.contains(&(cr3 & ROOT)))
    }
}

impl Oracle {
    /// A body begins, in an NMI that interrupted `outer`.
    pub(in crate::oracle) fn check_cr3(&mut self, machine: &Machine, outer: &Context) {
        let (cr3, before) = (machine.state().sregs.cr3, outer.cr3());
        let tables = &self.rules.tables;
        if tables.is_users(cr3) {
            self.breaks(Invariant::Cr3, |_| format!("the body runs on CR3 {cr3:#x}, which is a user's page table"));
        } else if !tables.may_be_kernels(cr3) {
            self.breaks(Invariant::Cr3, |_| format!("the body runs on CR3 {cr3:#x}, which is no declared kernel's"));
        } else if outer.cpl() == 0 && !tables.is_users(before) && cr3 != before {
            self.breaks(Invariant::Cr3, |_| {
                format!("the body runs on CR3 {cr3:#x}; the interrupted kernel's is {before:#x}")
            });
        }
    }
}
