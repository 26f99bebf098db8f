//! What runs on Xen: options of `vmm xen`.

use std::path::PathBuf;

use clap::Args;

use super::alive::alive;
use super::boot::{bad, read};
use super::failure::Failure;
use crate::kernels::xen::{Body, Dom0, Named, guest_symbols};
use crate::kernels::{LabError, quoted, resolve};

/// The guest. Without options it is the lab's own.
#[derive(Clone, Debug, Default, Args)]
pub struct Guest {
    /// What the lab's guest does in its NMI callback: nothing, ud or page-fault (it takes that
    /// exception, and returns from it by HYPERVISOR_iret), ud-flag (it returns with the flag of a
    /// patched Xen), hypercalls
    #[arg(long, value_name = "BODY", default_value = "nothing", value_parser = body, help_heading = "Guest")]
    pub body: Body,
    /// A paravirtual guest of yours instead of the lab's: an ELF file with symbols and Xen's notes
    #[arg(long, value_name = "ELF", conflicts_with = "body", requires = "alive", help_heading = "Guest")]
    pub guest: Option<PathBuf>,
    /// A Linux kernel as dom0 instead: a bzImage that can be one (CONFIG_XEN_PV); the lab's user program
    /// runs on it
    #[arg(long, value_name = "BZIMAGE", conflicts_with_all = ["body", "guest"], help_heading = "Guest")]
    pub dom0: Option<PathBuf>,
    /// An initial RAM disk of yours for it; the lab's program is added
    #[arg(long, value_name = "FILE", requires = "dom0", help_heading = "Guest")]
    pub initrd: Option<PathBuf>,
    /// Words to add to its command line
    #[arg(long, value_name = "WORDS", requires = "dom0", help_heading = "Guest")]
    pub dom0_cmdline: Option<String>,
    /// What shows that it is up and lives: a port that it writes to, or code that it comes to
    #[arg(long, value_name = "PORT|SYMBOL", requires = "guest", help_heading = "Guest")]
    pub alive: Option<String>,
    /// The 32-bit word in which it counts the NMIs that reach it
    #[arg(long, value_name = "SYMBOL", requires = "guest", help_heading = "Guest")]
    pub counter: Option<String>,
    /// The 32-bit word in which it counts entries of its NMI callback while that is active
    #[arg(long, value_name = "SYMBOL", requires = "guest", help_heading = "Guest")]
    pub nested: Option<String>,
    /// Where it goes when it gives up; may be repeated
    #[arg(long, value_name = "SYMBOL", requires = "guest", help_heading = "Guest")]
    pub panic: Vec<String>,
}

fn body(text: &str) -> Result<Body, String> {
    let found = Body::ALL.iter().find(|(name, _)| *name == text).map(|(_, body)| *body);
    let names = Body::ALL.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| format!("unknown body {text:?}; expected one of {names}"))
}

impl Guest {
    /// The lab's own.
    pub fn own(body: Body) -> Self {
        Self { body, ..Self::default() }
    }

    /// As what runs on Xen.
    pub fn dom0(&self) -> Result<Dom0, Failure> {
        if let Some(file) = &self.dom0 {
            let initrd = self.initrd.as_deref().map(read).transpose()?.unwrap_or_default();
            let words = self.dom0_cmdline.as_deref().unwrap_or_default();
            return Dom0::linux(read(file)?, initrd, words).map_err(|why| bad(file, why));
        }
        let (Some(file), Some(sign)) = (&self.guest, &self.alive) else {
            return Dom0::own(self.body).map_err(|why| LabError::from(why).into());
        };
        let elf = read(file)?;
        let symbols = guest_symbols(&elf).map_err(|why| bad(file, why))?;
        let place = |name: &str| resolve(name, &symbols).map_err(LabError::Site);
        let (counter, nested) = (self.counter.as_deref(), self.nested.as_deref());
        let (counter, nested) = (counter.map(place).transpose()?, nested.map(place).transpose()?);
        let panics = self.panic.iter().map(|name| place(name)).collect::<Result<_, _>>()?;
        let (alive, port) = alive(sign, &symbols)?;
        let named = Named { elf, symbols, counter, nested, panics, alive, port };
        named.dom0().map_err(|why| bad(file, why))
    }

    /// The words that choose the same guest again.
    pub fn command(&self) -> String {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let mut options =
            vec![("dom0", file(&self.dom0)), ("initrd", file(&self.initrd)), ("guest", file(&self.guest))];
        options.extend([
            ("alive", self.alive.clone()),
            ("counter", self.counter.clone()),
            ("nested", self.nested.clone()),
        ]);
        options.push(("dom0-cmdline", self.dom0_cmdline.clone()));
        options.extend(self.panic.iter().map(|place| ("panic", Some(place.clone()))));
        let words: Vec<_> =
            options.into_iter().filter_map(|(name, value)| Some(format!("--{name} {}", quoted(&value?)))).collect();
        match words.is_empty() {
            true => format!("--body {}", self.body.name()),
            false => words.join(" "),
        }
    }

    /// The files that it reads.
    pub fn reads(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.guest, &self.dom0, &self.initrd].into_iter().flatten()
    }
}
