//! A kernel that has booted, and stands where the first NMI arrives.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use super::entry::EntryPath;
use super::expect::Expected;
use super::footprint::Footprint;
use super::judge::Reference;
use super::kernel::Kernel;
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
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
    /// How long it may take to come up.
    pub boot_limit: Duration,
    /// `label+off=bytes`, written after the boot.
    pub mutations: Vec<String>,
}

/// The lab with a kernel in it.
pub struct Lab {
    host: HostId,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) pc: Pc,
    pub(super) path: EntryPath,
    /// The kernel as it came up, without any mutation.
    home: Snapshot,
    mutations: Vec<String>,
    pub(super) snapshot: Snapshot,
    pub(super) site: Site,
    pub(super) reference: Reference,
    /// What NMIs write, by site.
    footprints: HashMap<Site, Footprint>,
    /// Every iretq of the kernel's entry code.
    pub(super) irets: Vec<u64>,
    /// CPU time that one case may take, after which it is a livelock.
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
        let kernel = setup.kernel;
        let mut pc = kernel.load(host, echo)?;
        pc.boot(setup.boot_limit, progress)?;
        pc.end_echo();
        kernel.settle(&mut pc)?;
        let mut home = pc.snapshot(Vec::new())?;
        let arrival = Arrival::new(&mut pc, &*kernel, &mut home, &[], site, Vec::new())?;
        let mut lab = Self {
            host: host.id().clone(),
            kernel,
            pc,
            path: arrival.path,
            home,
            mutations: Vec::new(),
            snapshot: arrival.snapshot,
            site: arrival.site,
            reference: arrival.reference,
            footprints: HashMap::new(),
            irets: arrival.irets,
            limit: Duration::from_millis(250),
        };
        lab.learn()?;
        if !setup.mutations.is_empty() {
            lab.go(&setup.mutations, site)?;
        }
        Ok(lab)
    }

    /// Changes the kernel's code as it came up, and goes to a site. Where that fails, the
    /// lab is good for nothing but to be told to go elsewhere.
    pub fn go(&mut self, mutations: &[String], site: &str) -> Result<(), LabError> {
        // What NMIs may write is learnt from the kernel as it came up.
        if !mutations.is_empty() && !self.footprints.contains_key(&Site::parse(site, &self.pc, &*self.kernel)?) {
            self.arrive(&[], site)?;
        }
        self.arrive(mutations, site)
    }

    fn arrive(&mut self, mutations: &[String], site: &str) -> Result<(), LabError> {
        let room = self.snapshot.take_room();
        let arrival = Arrival::new(&mut self.pc, &*self.kernel, &mut self.home, mutations, site, room)?;
        (self.path, self.irets, self.site) = (arrival.path, arrival.irets, arrival.site);
        (self.snapshot, self.reference) = (arrival.snapshot, arrival.reference);
        self.mutations = mutations.to_vec();
        match self.footprints.get(&self.site) {
            Some(known) => self.reference.footprint = known.clone(),
            None => self.learn()?,
        }
        Ok(())
    }

    /// Finds out what NMIs write here: one alone, one that is latched during another, one
    /// that nests.
    fn learn(&mut self) -> Result<(), LabError> {
        let mut footprint = Footprint::new(&self.pc)?;
        let one = vec![Event { kind: Kind::Nmi, at: self.start() }];
        let path = self.walk(&one)?;
        path.visits.iter().for_each(|v| footprint.add_stack(&self.pc, v.rsp));
        let mut schedules = vec![one.clone()];
        if let Some(at) = path.in_handler(&self.path) {
            let nested = [Event { kind: Kind::Unmask, at }, Event { kind: Kind::Nmi, at }];
            schedules.push([&one[..], &nested[1..]].concat());
            schedules.push([&one[..], &nested].concat());
        }
        for (i, schedule) in schedules.iter().enumerate() {
            match self.written_by(schedule) {
                Ok(changes) => footprint.add(&changes),
                // The sweep will say so; less may be written then.
                Err(why) if i > 0 => log::warn!("what more than one NMI writes is not known: {why}"),
                Err(why) => return Err(why),
            }
        }
        log::info!("NMIs at {} write {}", self.show(self.start().addr), footprint.names(&self.pc).join(", "));
        self.footprints.insert(self.site.clone(), footprint.clone());
        self.reference.footprint = footprint;
        Ok(())
    }

    /// What NMIs may write outside their stacks, by name.
    pub fn written(&self) -> Vec<String> {
        self.reference.footprint.names(&self.pc)
    }

    /// Whether a guest-physical address is on the part of the interrupted stack that is in
    /// use.
    pub(super) fn on_interrupted_stack(&self, at: u64) -> bool {
        let rsp = self.pc.physical(self.snapshot.vcpu().regs.rsp);
        self.site != Site::User && rsp.is_some_and(|rsp| (rsp..=rsp | 0xfff).contains(&at))
    }

    /// Where it runs.
    pub fn host(&self) -> &HostId {
        &self.host
    }

    /// What it runs.
    pub fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
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

    /// What is to be expected of a schedule: that the kernel survives, unless one of its NMIs
    /// comes where no kernel can. Sweeps, schedules and replays are judged by this alike.
    pub fn expected(&mut self, events: &[Event]) -> Result<Expected, LabError> {
        let nmis = events.iter().enumerate().filter(|(_, e)| e.kind == Kind::Nmi).skip(1);
        let mut all = Expected::Nested;
        for (i, nmi) in nmis {
            let unmasked = events[..i].last().is_some_and(|e| e.kind == Kind::Unmask && e.at == nmi.at);
            let before = &events[..i - usize::from(unmasked)];
            let path = match self.walk(before) {
                Ok(path) => path,
                // What came before must be survived, and is not.
                Err(LabError::Single(..)) => return Ok(all),
                Err(e) => return Err(e),
            };
            let Some(visit) = path.visits.iter().find(|v| v.at == nmi.at) else { return Ok(all) };
            all = Expected::of(visit, unmasked);
            if !all.survives() {
                break;
            }
        }
        Ok(all)
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
    reference: Reference,
}

impl Arrival {
    /// From the kernel as it came up, changed by `mutations`, to a site.
    fn new(
        pc: &mut Pc,
        kernel: &dyn Kernel,
        home: &mut Snapshot,
        mutations: &[String],
        site: &str,
        room: Vec<u8>,
    ) -> Result<Self, LabError> {
        pc.set_silent(false);
        pc.restore(home)?;
        for mutation in mutations {
            mutate(pc, mutation)?;
        }
        let path = kernel.nmi_path(pc)?;
        let site = match Site::parse(site, pc, kernel)? {
            // Not without an NMI: see `Lab::schedule`.
            Site::Kernel(addr) if path.contains(addr) => Site::parse("", pc, kernel)?,
            site => site,
        };
        let irets = entry_irets(pc, &path);
        site.reach(pc, SITE_LIMIT)?;
        let mut snapshot = pc.snapshot(room)?;
        // As every case finds it.
        pc.restore(&mut snapshot)?;
        let reference = Reference::of(pc, kernel)?;
        pc.set_silent(true);
        Ok(Self { path, irets, site, snapshot, reference })
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
    pc.write_kernel("the place", addr, &bytes).map_err(|e| bad(&e.to_string()))
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
