//! What a kernel provides, so that the lab can run it and judge it.

use std::io::Write;

use super::entry::EntryPath;
use super::fault_by::{Fault, FaultBy};
use super::pc::{Error, PageFault, Pc};
use crate::kvm::Host;

/// A kernel that the lab runs on its PC. All that differs between kernels is here.
pub trait Kernel: Send + Sync {
    /// Its name, as "Linux".
    fn name(&self) -> &'static str;

    /// The same kernel for a further machine, which is resumed and not loaded.
    fn twin(&self) -> Box<dyn Kernel>;

    /// A machine with the kernel loaded, which is about to start. The console goes to `echo`
    /// as well.
    fn load(&self, host: &Host, echo: Option<Box<dyn Write + Send>>) -> Result<Pc, Error>;

    /// The kernel has come up: finds its page table, and takes away what would make a case
    /// depend on how fast the host is.
    fn settle(&self, pc: &mut Pc) -> Result<(), Error>;

    /// The NMI entry code as it is in memory, and the word that counts handled NMIs.
    fn nmi_path(&self, pc: &Pc) -> Result<EntryPath, Error>;

    /// What the kernel itself knows to be wrong, and what must be the same after an NMI as
    /// before: each by a name and its value. A verdict compares two such lists.
    fn vitals(&self, pc: &Pc) -> Result<Vec<Vital>, Error>;

    /// What of the [`Kernel::vitals`] this kernel's symbols do not name, so that no verdict
    /// says anything about it.
    fn unchecked(&self) -> Vec<&'static str>;

    /// A page fault that the kernel's handler resolves wherever it is raised, by doing nothing:
    /// the interrupted instruction is then executed as if there had been none.
    fn resolvable_fault(&self, path: &EntryPath) -> PageFault;

    /// Where its NMI handler's C code begins, and the GS base that it relies on, if it relies on one.
    fn handler_gs(&self, _: &Pc) -> Result<Option<(u64, u64)>, Error> {
        Ok(None)
    }

    /// How the kernel's handler is made to take a fault.
    fn fault(&self, _: &Pc, path: &EntryPath, by: FaultBy) -> Result<Fault, Error> {
        match by {
            FaultBy::Spurious => Ok(Fault::Page(self.resolvable_fault(path))),
            _ => Err(Error::Symbols(format!("{} is not known to take a fault by {}", self.name(), by.word()))),
        }
    }

    /// A function that the user program runs through in every round: the first NMI's site
    /// where none is named.
    fn default_site(&self) -> Result<u64, Error>;

    /// The version, as the kernel's console says it.
    fn version(&self, console: &str) -> Option<String>;
}

/// A word of the kernel's that an NMI must leave as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vital {
    /// The kernel's name for it.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// Whether it is the same in user mode, too, and for ever.
    pub lasts: bool,
    /// What a change means, in words that follow "the kernel": "says that it is tainted".
    pub means: &'static str,
}
