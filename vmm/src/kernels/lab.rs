//! A kernel that has booted, and stands where the first NMI arrives.

use std::collections::HashMap;
use std::time::Duration;

use super::check;
use super::entry::EntryPath;
use super::expect::Expected;
use super::footprint::Footprint;
use super::judge::Reference;
use super::kernel::Kernel;
use super::pc::{Error, Pc, Snapshot};
use super::running::Running;
use super::site::{Site, boundary};
use crate::host_id::HostId;
use crate::image::PlaceError;
use crate::inject::{At, Event, Kind, Schedule, ScheduleError};

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

/// Where a lab starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// At a site, by its name; empty for the kernel's default.
    Site(&'a str),
    /// Where the first NMI of a schedule arrives. One that begins amid the NMI's own code has
    /// an NMI at the default site before it: see [`Lab::schedule`].
    Schedule(&'a str),
}

impl<'a> Start<'a> {
    /// The name of the place.
    pub fn place(self) -> &'a str {
        match self {
            Start::Site(name) => name,
            Start::Schedule(text) => Lab::site_of(text),
        }
    }
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
    /// A kernel that has come up, and runs the user program. It is to be told where to go: see
    /// [`Lab::go`].
    pub fn new(running: Running) -> Result<Self, LabError> {
        let Running { host, kernel, mut pc, mut home } = running;
        let arrival = Arrival::new(&mut pc, &*kernel, &mut home, &[], Start::Site("user"), Vec::new())?;
        Ok(Self {
            host,
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
        })
    }

    /// Changes the kernel's code as it came up, and goes to a site. Where that fails, the
    /// lab is good for nothing but to be told to go elsewhere.
    pub fn go(&mut self, mutations: &[String], start: Start) -> Result<(), LabError> {
        // What NMIs may write is learnt from the kernel as it came up.
        if !mutations.is_empty() {
            self.arrive(&[], start)?;
        }
        self.arrive(mutations, start)
    }

    fn arrive(&mut self, mutations: &[String], start: Start) -> Result<(), LabError> {
        let room = self.snapshot.take_room();
        let arrival = Arrival::new(&mut self.pc, &*self.kernel, &mut self.home, mutations, start, room)?;
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
        start: Start,
        room: Vec<u8>,
    ) -> Result<Self, LabError> {
        pc.set_silent(false);
        pc.restore(home)?;
        for mutation in mutations {
            let (addr, bytes) = check::mutation(mutation, &pc.symbols)?;
            let written = pc.write_kernel("the place", addr, &bytes);
            written.map_err(|e| LabError::Mutation(format!("{mutation:?}: {e}")))?;
        }
        let path = kernel.nmi_path(pc)?;
        let site = match (Site::parse(start.place(), pc, kernel)?, start) {
            (Site::Kernel(addr), Start::Schedule(_)) if path.contains(addr) => Site::parse("", pc, kernel)?,
            (Site::Kernel(addr), Start::Site(place)) if path.contains(addr) => {
                let hint =
                    "; it is the NMI's own code, which nothing but an NMI comes to: name it in a schedule".into();
                return Err(LabError::Site(PlaceError::NotABoundary { place: place.to_owned(), hint }));
            }
            (site, _) => site,
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
