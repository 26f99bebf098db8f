//! Which page tables are the kernel's, and which are for user code.

use super::golden::Golden;
use crate::image::Image;
use crate::machine::Machine;
use crate::machine::paging::{ROOT, lacks};

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
    pub(super) fn is_users(&self, cr3: u64) -> bool {
        self.user.contains(&(cr3 & ROOT))
    }

    /// Whether a CR3 may be the kernel's.
    pub(super) fn may_be_kernels(&self, cr3: u64) -> bool {
        !self.is_users(cr3) && (self.kernel.is_empty() || self.kernel.contains(&(cr3 & ROOT)))
    }
}
