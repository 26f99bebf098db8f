//! What a kernel provides, so that the lab can run it and judge it.

use std::io::Write;
use std::ops::Range;

use super::entry::EntryPath;
use super::fault_by::{Fault, FaultBy};
use super::pc::{Error, KernelSymbols, PageFault, Pc};
use crate::kvm::Host;
use crate::oracle::Invariant;

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

    /// The kernel has come up, or is resumed: what is chosen only now.
    fn prepare(&self, _: &mut Pc) -> Result<(), Error> {
        Ok(())
    }

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
    /// `None` where none is known.
    fn resolvable_fault(&self, path: &EntryPath) -> Option<PageFault>;

    /// Where its NMI handler's C code begins, and with which GS base, if the kernel is known to
    /// rely on that.
    fn handler_gs(&self, _: &Pc) -> Result<Option<(u64, HandlerGs)>, Error> {
        Ok(None)
    }

    /// How the kernel's handler is made to take a fault; `None` where it is not known to return from
    /// one.
    fn fault(&self, _: &Pc, path: &EntryPath, by: FaultBy) -> Result<Option<Fault>, Error> {
        Ok(self.resolvable_fault(path).filter(|_| by.is_usual()).map(Fault::Page))
    }

    /// A function that the user program runs through in every round: the first NMI's site
    /// where none is named.
    fn default_site(&self) -> Result<u64, Error>;

    /// Where the lab goes as soon as the kernel has come up: `user`, amid the user program, or a
    /// place; empty for the default site.
    fn first_site(&self) -> &str {
        "user"
    }

    /// Where execution comes to once the kernel is up; `None` where the program's heartbeat shows it.
    fn comes_up_at(&self) -> Option<u64> {
        None
    }

    /// What shows after a case that all lives.
    fn alive(&self) -> Alive {
        Alive::Heartbeat
    }

    /// Code in which the kernel's iretqs are.
    fn entry_code(&self, symbols: &KernelSymbols) -> Vec<Range<u64>> {
        symbols.text()
    }

    /// How many NMIs the kernel has passed on to what runs on it; `None` where it passes none on.
    fn passed_on(&self, _: &Pc) -> Result<Option<u32>, Error> {
        Ok(None)
    }

    /// Whether the kernel says nothing about NMIs that it survives, so that any line on its console
    /// is a complaint.
    fn is_silent(&self) -> bool {
        true
    }

    /// Whether its handler has code besides the entry path, so that a path without any was not
    /// looked at as a whole.
    fn has_c_code(&self) -> bool {
        true
    }

    /// The version, as the kernel's console says it.
    fn version(&self, console: &str) -> Option<String>;
}

/// What shows after a case that all lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// The program's heartbeat, with its checksum where it has one.
    Heartbeat,
    /// Execution comes to this address.
    At(u64),
    /// Execution comes to the first NMI's site again.
    Site,
}

/// When a word must be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// When execution is back where the first NMI arrived: elsewhere the word may be another.
    AtHome,
    /// Then, and after the sign of life.
    Always,
    /// After the sign of life: until then something may be left to do.
    AtEnd,
}

/// What the GS base must be where an NMI handler's C code begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerGs {
    /// The kernel's, by which it reaches its per-CPU data.
    Is(u64),
    /// Any but the user program's, where no data is reached by it.
    IsNot(u64),
}

/// A word of the kernel's that an NMI must leave as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vital {
    /// The kernel's name for it.
    pub name: &'static str,
    /// Its virtual address.
    pub addr: u64,
    /// Its value.
    pub value: u64,
    /// When it must be as it was.
    pub holds: Holds,
    /// What a change breaks.
    pub breaks: Invariant,
    /// What a change means, in words that follow "the kernel": "says that it is tainted".
    pub means: &'static str,
}
