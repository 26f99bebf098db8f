//! A kernel that has booted, and stands where the first NMI arrives.

use std::io::Write;
use std::time::Duration;

use super::linux::{EntryPath, KernelSymbols, Options};
use super::pc::{Error, Pc, Progress, Snapshot};
use super::site::{Site, boundary, resolve};
use crate::host_id::HostId;
use crate::image::PlaceError;
use crate::inject::{At, Event, Kind, Schedule, ScheduleError};
use crate::kvm::Host;

/// What can go wrong in the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel or the host.
    #[error(transparent)]
    Machine(#[from] Error),
    /// The schedule.
    #[error("schedule: {0}")]
    Schedule(#[from] ScheduleError),
    /// The first NMI's site.
    #[error("site: {0}")]
    Site(PlaceError),
    /// A mutation.
    #[error("{0}")]
    Mutation(String),
    /// One NMI alone is not survived: nothing can be said about more.
    #[error("a single NMI at {0} does not pass: {1}")]
    Single(String, String),
}

impl LabError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::Machine(e) => e.exit_code(),
            LabError::Schedule(_) | LabError::Site(_) | LabError::Mutation(_) => 65,
            LabError::Single(..) => 1,
        }
    }
}

/// How long the user program may take to come to the first NMI's site.
const SITE_LIMIT: Duration = Duration::from_secs(60);

/// What a lab is made of.
pub struct Setup {
    /// The unpacked kernel.
    pub elf: Vec<u8>,
    /// Its symbols.
    pub symbols: KernelSymbols,
    /// How to boot it.
    pub options: Options,
    /// `label+off=bytes`, written after the boot.
    pub mutations: Vec<String>,
}

/// The lab with a kernel in it.
pub struct Lab {
    host: HostId,
    pub(super) pc: Pc,
    pub(super) path: EntryPath,
    /// The kernel as it came up, without any mutation.
    home: Snapshot,
    mutations: Vec<String>,
    pub(super) snapshot: Snapshot,
    pub(super) site: Site,
    /// Every iretq of the kernel's entry code.
    pub(super) irets: Vec<u64>,
    /// How long one case may take, without which it is a livelock.
    pub(super) limit: Duration,
}

impl Lab {
    /// Boots the kernel, applies the mutations, and goes to the first NMI's site.
    pub fn new(
        host: &Host,
        setup: Setup,
        site: &str,
        echo: Option<Box<dyn Write + Send>>,
        progress: Progress,
    ) -> Result<Self, LabError> {
        let seconds = Duration::from_secs(setup.options.boot_seconds);
        let mut pc = Pc::new(host, &setup.elf, setup.symbols, &setup.options, echo)?;
        pc.boot(seconds, progress)?;
        pc.end_echo();
        quieten(&mut pc);
        let mut home = pc.snapshot(Vec::new())?;
        let Arrival { path, irets, site, snapshot } =
            Arrival::new(&mut pc, &mut home, &setup.mutations, site, Vec::new())?;
        let limit = Duration::from_millis(250);
        let (host, mutations) = (host.id().clone(), setup.mutations);
        Ok(Self { host, pc, path, home, mutations, snapshot, site, irets, limit })
    }

    /// Changes the kernel's code as it came up, and goes to a site. Where that fails, the
    /// lab is good for nothing but to be told to go elsewhere.
    pub fn go(&mut self, mutations: &[String], site: &str) -> Result<(), LabError> {
        let room = self.snapshot.take_room();
        let arrival = Arrival::new(&mut self.pc, &mut self.home, mutations, site, room)?;
        (self.path, self.irets, self.site) = (arrival.path, arrival.irets, arrival.site);
        self.snapshot = arrival.snapshot;
        self.mutations = mutations.to_vec();
        Ok(())
    }

    /// Where it runs.
    pub fn host(&self) -> &HostId {
        &self.host
    }

    /// What of the kernel's code is changed.
    pub fn mutations(&self) -> &[String] {
        &self.mutations
    }

    /// The NMI entry path as it is in memory.
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// The machine.
    pub fn pc(&self) -> &Pc {
        &self.pc
    }

    /// How long one case may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The boundary where the first NMI arrives.
    pub fn start(&self) -> At {
        At { addr: self.snapshot.vcpu().regs.rip, n: 1 }
    }

    /// How an address is written in a schedule.
    pub fn show(&self, addr: u64) -> String {
        match self.site {
            Site::User if addr == self.start().addr => "user".into(),
            Site::Idle if addr == self.start().addr => "idle".into(),
            _ => self.pc.symbols.show(addr),
        }
    }

    /// A schedule's text.
    pub fn show_schedule(&self, events: &[Event]) -> String {
        Schedule(events.to_vec()).show_with(|addr| self.show(addr))
    }

    /// Reads a schedule, whose first event is at this lab's site. One that begins amid the
    /// NMI's own code has an NMI at the site before it.
    pub fn schedule(&self, text: &str) -> Result<Schedule, LabError> {
        let start = self.start().addr;
        let mut schedule = Schedule::parse_with(text, |place| match place {
            "user" | "idle" => Ok(start),
            place => boundary(place, &self.pc),
        })?;
        if schedule.0.first().is_some_and(|e| self.path.contains(e.at.addr)) {
            schedule.0.insert(0, Event { kind: Kind::Nmi, at: self.start() });
        }
        Ok(schedule)
    }

    /// The place of a schedule's first event, which is where to boot to.
    pub fn site_of(text: &str) -> &str {
        let first = text.split([' ', ',', '\t', '\n']).find(|w| !w.is_empty()).unwrap_or("");
        let place = first.split_once('@').map_or("", |(_, place)| place);
        place.split_once('#').map_or(place, |(place, _)| place)
    }

    /// Restores the snapshot; for measurements.
    pub fn restore(&mut self) -> Result<usize, LabError> {
        self.pc.restore(&mut self.snapshot)?;
        Ok(self.snapshot.pages_restored())
    }
}

/// A kernel at the first NMI's site.
struct Arrival {
    path: EntryPath,
    irets: Vec<u64>,
    site: Site,
    snapshot: Snapshot,
}

impl Arrival {
    /// From the kernel as it came up, changed by `mutations`, to a site.
    fn new(
        pc: &mut Pc,
        home: &mut Snapshot,
        mutations: &[String],
        site: &str,
        room: Vec<u8>,
    ) -> Result<Self, LabError> {
        pc.restore(home)?;
        for mutation in mutations {
            mutate(pc, mutation)?;
        }
        let path = EntryPath::read(pc)?;
        let site = match Site::parse(site, pc)? {
            // Not without an NMI: see `Lab::schedule`.
            Site::Kernel(addr) if path.contains(addr) => Site::parse("", pc)?,
            site => site,
        };
        let irets = entry_irets(pc, &path);
        site.reach(pc, SITE_LIMIT)?;
        Ok(Self { path, irets, site, snapshot: pc.snapshot(room)? })
    }
}

/// Applies `label+off=90 90`, or without spaces.
fn mutate(pc: &mut Pc, text: &str) -> Result<(), LabError> {
    let bad = |why: &str| LabError::Mutation(format!("{text:?}: {why}; a mutation is written label+0x10=9090"));
    let (place, hex) = text.split_once('=').ok_or_else(|| bad("no ="))?;
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(bad("bytes are pairs of hexadecimal digits"));
    }
    let pair = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    let bytes = bytes.ok_or_else(|| bad("bytes are hexadecimal"))?;
    let addr = resolve(place, pc).map_err(|e| bad(&e.to_string()))?;
    match pc.write_kernel(addr, &bytes) {
        true => Ok(()),
        false => Err(bad("that place is not mapped")),
    }
}

/// Takes away what would make a case's path depend on how fast the host is: the
/// kernel's measuring of its NMI handlers (over `nmi_longest_ns` it says so, which is
/// thousands of instructions). And what is less than a warning goes no longer to the
/// console.
fn quieten(pc: &mut Pc) {
    const WARNINGS: u32 = 5; // levels below go out; KERN_WARNING is 4
    if let Some(addr) = pc.symbols.get("console_printk") {
        pc.write_kernel(addr, &WARNINGS.to_le_bytes());
    }
    if let Some(addr) = pc.symbols.get("nmi_longest_ns") {
        pc.write_kernel(addr, &(u64::MAX >> 1).to_le_bytes());
    }
}

/// Every iretq between the entry code's symbols, and those of the NMI's path.
fn entry_irets(pc: &Pc, path: &EntryPath) -> Vec<u64> {
    let mut out = path.irets.clone();
    let (start, end) = match (pc.symbols.get("__entry_text_start"), pc.symbols.get("__entry_text_end")) {
        (Some(start), Some(end)) if end - start < 0x10_0000 => (start, end),
        _ => return out,
    };
    let mut addr = start;
    while addr < end {
        // Where data lies between functions, decoding begins anew at the next name.
        let next = pc.symbols.next_after(addr).unwrap_or(end);
        match pc.instruction(addr) {
            Some(d) if d.insn.next_ip() <= next => {
                if d.flow == crate::image::Flow::Iret {
                    out.push(addr);
                }
                addr = d.insn.next_ip();
            }
            _ => addr = next,
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}
