//! Which page tables are the kernel's, and which are for user code.

use super::golden::Golden;
use crate::image::{Image, PageTables};
use crate::machine::Machine;
use crate::machine::paging::{ROOT, lacks};

/// Which page tables are the kernel's, and which are for user code.
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<PageTables>);

impl Tables {
    /// Those that the manifest declares, process by process. Where it declares none, a table that
    /// user code runs on in the golden run is for user code if it lacks something that the kernel's
    /// table at *ready* maps.
    pub fn new(image: &Image, ready: &Machine, golden: &Golden) -> Self {
        let roots = |list: &[u64]| list.iter().map(|root| image.paddr(*root).unwrap_or(*root)).collect();
        let declared = image.declared.page_tables.iter();
        let mut processes: Vec<_> =
            declared.map(|p| PageTables { kernel: roots(&p.kernel), user: roots(&p.user) }).collect();
        if processes.is_empty() {
            let (ram, kernels) = (ready.memory().0, ready.state().sregs.cr3);
            let user = golden.user_roots.iter().copied().filter(|root| lacks(ram, *root, kernels)).collect();
            processes.push(PageTables { kernel: vec![], user });
        }
        Self(processes)
    }

    /// Whether a CR3 is of a table for user code.
    pub(super) fn is_users(&self, cr3: u64) -> bool {
        self.0.iter().any(|p| p.user.contains(&(cr3 & ROOT)))
    }

    /// Whether a CR3 may be the kernel's. Where none is declared, any may that is not a user's.
    pub(super) fn may_be_kernels(&self, cr3: u64) -> bool {
        let declared = self.0.iter().any(|p| !p.kernel.is_empty());
        !self.is_users(cr3) && (!declared || self.0.iter().any(|p| p.kernel.contains(&(cr3 & ROOT))))
    }

    /// Whether a kernel's CR3 is that of another process than the one whose user's CR3 was
    /// interrupted: each has kernel's tables of its own, by what is declared.
    pub(super) fn is_of_another(&self, cr3: u64, interrupted: u64) -> bool {
        let own = self.0.iter().filter(|p| p.user.contains(&(interrupted & ROOT)) && !p.kernel.is_empty());
        let mut own = own.peekable();
        own.peek().is_some() && own.all(|p| !p.kernel.contains(&(cr3 & ROOT)))
    }
}
