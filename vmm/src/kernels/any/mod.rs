//! Any kernel that boots by multiboot 1 and is in 64-bit mode when NMIs come to it. Nothing is known
//! of it but what its IDT shows, and what the user names.

mod image;

use std::io::Write;

use xxhash_rust::xxh3::Xxh3;

use super::entry::EntryPath;
use super::kernel::{Alive, Kernel, Vital};
use super::pc::{Board, Error, Hooks, KernelSymbols, Module, PageFault, Pc, Program};
use crate::cpu::control::EFER_LMA;
use crate::kvm::{Host, Vm};
pub use image::symbols;

/// A kernel, and what its user says about it.
#[derive(Clone, Debug)]
pub struct Any {
    /// The image.
    pub image: Vec<u8>,
    /// Its symbols.
    pub symbols: KernelSymbols,
    /// Its command line.
    pub cmdline: String,
    /// Files that are loaded beside it.
    pub modules: Vec<Module>,
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// Where the first NMI arrives; 0 where the CPU is idle.
    pub site: u64,
    /// The 32-bit word that its handler counts NMIs in.
    pub counter: Option<u64>,
    /// Where it goes when it gives up.
    pub panics: Vec<u64>,
    /// What shows that it lives.
    pub alive: Alive,
    /// The port that a sign of life is written to; 0 where there is none.
    pub port: u16,
}

/// What the machine is: to be counted up with any change that makes a kernel come up otherwise.
const REVISION: u32 = 1;

impl Any {
    /// What a saved machine of this kernel is known by: it changes with all that it comes up from, and
    /// with what the user says about it, which is saved, too.
    pub fn key(&self, host: &Host) -> String {
        let mut all = Xxh3::new();
        let version = env!("CARGO_PKG_VERSION");
        let (fingerprint, cpuid) = (&host.id().fingerprint, Vm::cpuid_number(host));
        let Self { ram_bytes, site, counter, panics, alive, port, .. } = self;
        let options = (ram_bytes, site, counter, panics, alive, port);
        all.update(format!("kernel {version} {REVISION} {fingerprint} {cpuid:?} {options:?}").as_bytes());
        let mut part = |bytes: &[u8]| {
            all.update(&(bytes.len() as u64).to_le_bytes());
            all.update(bytes);
        };
        part(&self.image);
        part(self.cmdline.as_bytes());
        self.modules.iter().for_each(|module| {
            part(&module.bytes);
            part(module.words.as_bytes());
        });
        self.symbols.all().for_each(|(addr, name)| {
            part(&addr.to_le_bytes());
            part(name.as_bytes());
        });
        format!("{:032x}", all.digest128())
    }
}

impl Kernel for Any {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn twin(&self) -> Box<dyn Kernel> {
        Box::new(Any { image: Vec::new(), modules: Vec::new(), ..self.clone() })
    }

    fn load(&self, host: &Host, echo: Option<Box<dyn Write + Send>>) -> Result<Pc, Error> {
        if self.image.is_empty() {
            return Err(Error::Image("there is none: this kernel is resumed from a file".into()));
        }
        let board = Board { ram_bytes: self.ram_bytes, apic: true, plain: true };
        let mut pc = Pc::new(host, board, self.symbols.clone(), Program::at_port(self.port), echo)?;
        pc.set_hooks(Hooks { panics: self.panics.clone(), ..Hooks::default() });
        pc.load_multiboot(&self.image, &self.cmdline, &self.modules)?;
        Ok(pc)
    }

    fn settle(&self, pc: &mut Pc) -> Result<(), Error> {
        let sregs = &pc.state().sregs;
        if sregs.efer & EFER_LMA == 0 {
            return Err(Error::Image("it came to its site in 32-bit mode: only 64-bit kernels can be judged".into()));
        }
        pc.set_page_table(sregs.cr3);
        Ok(())
    }

    fn nmi_path(&self, pc: &Pc) -> Result<EntryPath, Error> {
        EntryPath::live(pc, self.counter)
    }

    fn vitals(&self, _: &Pc) -> Result<Vec<Vital>, Error> {
        Ok(Vec::new())
    }

    fn unchecked(&self) -> Vec<&'static str> {
        let counter = self.counter.is_none().then_some("whether each NMI is handled (no --counter)");
        let panic = self.panics.is_empty().then_some("whether the kernel gives up (no --panic)");
        counter.into_iter().chain(panic).collect()
    }

    fn resolvable_fault(&self, _: &EntryPath) -> Option<PageFault> {
        None
    }

    fn default_site(&self) -> Result<u64, Error> {
        Ok(self.site)
    }

    fn version(&self, console: &str) -> Option<String> {
        let line = console.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(80).collect())
    }

    fn first_site(&self) -> &str {
        ""
    }

    fn comes_up_at(&self) -> Option<u64> {
        match self.alive {
            _ if self.port != 0 => None,
            Alive::At(place) if self.site == 0 => Some(place),
            _ => Some(self.site),
        }
    }

    fn alive(&self) -> Alive {
        self.alive
    }

    fn is_silent(&self) -> bool {
        false
    }

    fn has_c_code(&self) -> bool {
        false
    }
}
