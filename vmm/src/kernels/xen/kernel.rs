//! Xen, as the lab runs it.

use std::io::Write;
use std::ops::Range;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Dom0, caps, vcpu};
use crate::cpu::msr;
use crate::kernels::entry::EntryPath;
use crate::kernels::kernel::{Alive, Holds, Kernel, Vital};
use crate::kernels::pc::{Board, Error, Hooks, KernelSymbols, PageFault, Pc};
use crate::kvm::{Host, Vm};
use crate::oracle::Invariant;

/// Xen with a paravirtual guest, and how it is booted.
pub struct Xen {
    /// The unpacked hypervisor; empty where one is resumed.
    pub image: Vec<u8>,
    /// Its symbols and the guest's.
    pub symbols: KernelSymbols,
    /// Words to add to its command line.
    pub cmdline: String,
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// What runs on it.
    pub dom0: Dom0,
}

/// No ACPI on this machine, and no I/O APIC ([`Dom0::words`]); NMIs are passed on to dom0 (a release build panics
/// else); features whose instructions a KVM that emulates CPL 0 lacks are off. Machine checks are
/// off, since with them Xen 4.17 on an Intel processor takes only CPUs that ACPI or an MP table has
/// named: of none, it dies in zap_low_mappings.
const WORDS: &str = "console=com1 com1=115200,8n1,0x3f8,0 acpi=off no-real-mode nmi=dom0 smap=0 smep=0 \
    mce=0 loglvl=warning guest_loglvl=warning watchdog=0";

/// Labels of the path, in the order of the source (xen/arch/x86/x86_64/entry.S).
const LABELS: [&str; 3] = ["nmi", "entry_NMI", "handle_ist_exception"];

/// For which vCPU an NMI is still to be raised, and which softirqs are to run, on the first CPU.
const RAISED: &str = "per_cpu__softirq_nmi_vcpu";
const SOFTIRQS: &str = "irq_stat";

/// Functions that Xen does not return from: it says why it dies.
const DEATHS: [&str; 2] = ["panic", "do_double_fault"];

impl Kernel for Xen {
    fn name(&self) -> &'static str {
        "Xen"
    }

    fn twin(&self) -> Box<dyn Kernel> {
        let (symbols, cmdline, dom0) = (self.symbols.clone(), self.cmdline.clone(), self.dom0.resumed());
        Box::new(Xen { image: Vec::new(), symbols, cmdline, ram_bytes: self.ram_bytes, dom0 })
    }

    fn entry_code(&self, symbols: &KernelSymbols) -> Vec<Range<u64>> {
        let range = symbols.get("_stextentry").zip(symbols.get("_etextentry"));
        let sound = range.filter(|(start, end)| start < end).map(|(start, end)| start..end);
        sound.map_or_else(|| symbols.text(), |range| std::iter::once(range).collect())
    }

    fn load(&self, host: &Host, echo: Option<Box<dyn Write + Send>>) -> Result<Pc, Error> {
        if self.image.is_empty() {
            return Err(Error::Image("there is none: this hypervisor is resumed from a file".into()));
        }
        let board = Board { ram_bytes: self.ram_bytes, apic: true, plain: true };
        let mut pc = Pc::new(host, board, self.symbols.clone(), self.dom0.program, echo)?;
        let words = format!("xen {WORDS} {} {}", self.dom0.words, self.cmdline);
        pc.load_multiboot(&self.image, words.trim(), &self.dom0.modules)?;
        if pc.shows_hidden_cpuid() {
            caps::clear(&mut pc)?;
        }
        let deaths = DEATHS.iter().filter_map(|name| self.symbols.get(name));
        pc.set_hooks(Hooks {
            page_fault: self.symbols.any(&["page_fault", "entry_PF"]),
            panics: deaths.chain(self.dom0.panics.iter().copied()).collect(),
            complaint: self.dom0.complaint.clone(),
            user_stops: true,
            late: true,
            ..Hooks::default()
        });
        Ok(pc)
    }

    fn settle(&self, pc: &mut Pc) -> Result<(), Error> {
        pc.set_page_table(pc.state().sregs.cr3);
        if let Some(settle) = self.dom0.settle {
            settle(&self.dom0, pc)?;
        }
        let start = self.symbols.get("_stext").ok_or_else(|| Error::Symbols("there is no _stext".into()))?;
        let at = pc.physical(start).ok_or(Error::Unreadable { what: "Xen's code", addr: start })?;
        pc.symbols.set_offset(start - at);
        let lstar = pc.msr(msr::LSTAR)?;
        pc.set_syscall(lstar);
        let (pending, mask) = vcpu::find(pc)?;
        pc.symbols.name(vcpu::PENDING, pending);
        pc.symbols.name(vcpu::MASK, mask);
        Ok(())
    }

    fn prepare(&self, pc: &mut Pc) -> Result<(), Error> {
        self.dom0.choose(pc)
    }

    /// The count is `do_nmi`'s, which is that of the first CPU: its data is where the symbols say.
    fn nmi_path(&self, pc: &Pc) -> Result<EntryPath, Error> {
        let counter = self.symbols.get("per_cpu__nmi_count");
        let counter = counter.ok_or_else(|| Error::Symbols("there is no per_cpu__nmi_count".into()))?;
        EntryPath::read(pc, &["nmi", "entry_NMI"], &LABELS, Some(counter))
    }

    fn vitals(&self, pc: &Pc) -> Result<Vec<Vital>, Error> {
        use Invariant::{AtRest, NoReentry};
        const NESTED: &str = "has entered the guest's NMI callback while its body was active";
        let Dom0 { nested, depth, .. } = self.dom0;
        let all = [
            (vcpu::PENDING, None, 1, Holds::AtEnd, AtRest, "has not told the guest of an NMI"),
            (vcpu::MASK, None, 1, Holds::AtEnd, AtRest, "holds the guest to be in its NMI callback still"),
            ("nested", nested, 4, Holds::Always, NoReentry, NESTED),
            (RAISED, None, 8, Holds::AtEnd, AtRest, "has not raised an NMI for the guest that it was to raise"),
            (SOFTIRQS, None, 4, Holds::AtEnd, AtRest, "has softirqs left to run"),
            ("depth", depth, 4, Holds::AtEnd, AtRest, "has not let the guest's NMI callback end"),
        ];
        type Word = (&'static str, Option<u64>, usize, Holds, Invariant, &'static str);
        let read = |(name, at, bytes, holds, breaks, means): Word| {
            let addr = at.or_else(|| pc.symbols.get(name));
            let addr = addr.ok_or_else(|| Error::Symbols(format!("there is no {name}")))?;
            let mut value = [0; 8];
            match pc.read(addr, &mut value[..bytes]) {
                true => Ok(Vital { name, addr, value: u64::from_le_bytes(value), holds, breaks, means }),
                false => Err(Error::Unreadable { what: name, addr }),
            }
        };
        // Other versions may keep these two elsewhere; what they lead to is looked at all the same.
        // Of the guest there is what is known of it.
        let known = |name: &str, at: Option<u64>| match name {
            RAISED | SOFTIRQS => pc.symbols.get(name).is_some(),
            vcpu::PENDING | vcpu::MASK => true,
            _ => at.is_some(),
        };
        all.into_iter().filter(|(name, at, ..)| known(name, *at)).map(read).collect()
    }

    fn unchecked(&self) -> Vec<&'static str> {
        self.dom0.unchecked()
    }

    fn comes_up_at(&self) -> Option<u64> {
        match self.dom0.alive {
            Alive::At(place) => Some(place),
            Alive::Heartbeat | Alive::Site => None,
        }
    }

    fn alive(&self) -> Alive {
        self.dom0.alive
    }

    fn resolvable_fault(&self, _: &EntryPath) -> Option<PageFault> {
        None
    }

    fn default_site(&self) -> Result<u64, Error> {
        self.dom0.site.map_or_else(|| self.symbol("do_xen_version"), Ok)
    }

    fn first_site(&self) -> &str {
        ""
    }

    /// It never leaves the IST where it has interrupted itself, so that there is no code in which the
    /// frame is read no more.
    fn has_c_code(&self) -> bool {
        false
    }

    fn passed_on(&self, pc: &Pc) -> Result<Option<u32>, Error> {
        self.dom0.told(pc)
    }

    fn version(&self, console: &str) -> Option<String> {
        let line = console.lines().find_map(|l| l.find("Xen version ").map(|at| &l[at..]))?;
        Some(line.split(" (").next().unwrap_or(line).to_owned())
    }
}

/// What Xen comes up from: to be counted up with any change that makes it come up otherwise.
const REVISION: u32 = 4;

impl Xen {
    /// A hypervisor with its symbols, and what runs on it. Where both have a name, the hypervisor's is
    /// the name, and the guest's is `dom0:` and it.
    pub fn new(image: Vec<u8>, mut symbols: KernelSymbols, cmdline: String, ram_bytes: u64, dom0: Dom0) -> Self {
        symbols.add(&dom0.symbols, "dom0:", &dom0.code);
        Self { image, symbols, cmdline, ram_bytes, dom0 }
    }

    /// What a saved machine of this hypervisor is known by: it changes with all that it comes up from.
    pub fn key(&self, host: &Host) -> String {
        let mut all = Xxh3::new();
        let parts = format!(
            "xen {} {REVISION} {} {:016x} {:016x} {} {WORDS} {}",
            env!("CARGO_PKG_VERSION"),
            host.id().fingerprint,
            Vm::cpuid_number(host),
            xxh3_64(&self.image),
            self.ram_bytes,
            self.cmdline,
        );
        all.update(parts.as_bytes());
        self.dom0.number(&mut all);
        format!("{:032x}", all.digest128())
    }

    fn symbol(&self, name: &str) -> Result<u64, Error> {
        self.symbols.get(name).ok_or_else(|| Error::Symbols(format!("there is no {name}")))
    }
}
