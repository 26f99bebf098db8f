//! The way to the first NMI's site: from the kernel as it came up, by its mutations, to where
//! every case begins; and what NMIs write there.

use std::collections::HashMap;
use std::time::Duration;

use super::check::{self, Mutation};
use super::entry::EntryPath;
use super::error::LabError;
use super::fault_by::{Fault, FaultBy};
use super::footprint::Footprint;
use super::kernel::Kernel;
use super::lab::Lab;
use super::pc::{Pc, Saved, Snapshot};
use super::reference::Reference;
use super::running::Running;
use super::site::{Site, raised};
use crate::cpu::vector;
use crate::image::{Decoded, Flow, PlaceError};
use crate::inject::{Event, Kind};
use crate::kvm::Host;

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
            Start::Schedule(text) => first_place(text),
        }
    }
}

/// The place of a schedule's first event, which is where to boot to.
fn first_place(text: &str) -> &str {
    let first = text.split([' ', ',', '\t', '\n']).find(|w| !w.is_empty()).unwrap_or("");
    let place = first.split_once('@').map_or("", |(_, place)| place);
    place.split_once('#').map_or(place, |(place, _)| place)
}

impl Lab {
    /// A kernel that has come up, and runs the user program. It is to be told where to go: see
    /// [`Lab::go`].
    pub fn new(running: Running) -> Result<Self, LabError> {
        let Running { host, kernel, mut pc, mut home } = running;
        let first = Start::Site(kernel.first_site());
        let arrival = Arrival::new(&mut pc, &*kernel, &mut home, &[], first, Vec::new())?;
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
            fault_by: FaultBy::default(),
            went_round: false,
        })
    }

    /// A further machine that has come up, for a thread of its own, from what [`Lab::seed`] gave.
    pub fn twin(host: &Host, kernel: Box<dyn Kernel>, seed: &[u8]) -> Result<Self, LabError> {
        Self::new(Running::resume(host, kernel, Saved::read(seed)?)?)
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
    /// that nests, one whose handler faults.
    fn learn(&mut self) -> Result<(), LabError> {
        let rsp = self.site.has_stack().then(|| self.pc.state().regs.rsp);
        let mut footprint = Footprint::new(&self.pc, rsp)?;
        let one = vec![Event { kind: Kind::Nmi, at: self.start() }];
        let path = self.walk(&one)?;
        path.visits.iter().for_each(|v| footprint.add_stack(&self.pc, v.rsp));
        let mut schedules = vec![one.clone()];
        if let Some(at) = path.in_handler(&self.path) {
            let nested = [Event { kind: Kind::Unmask, at }, Event { kind: Kind::Nmi, at }];
            schedules.push([&one[..], &nested[1..]].concat());
            schedules.push([&one[..], &nested].concat());
        }
        if self.kernel.resolvable_fault(&self.path).is_some() {
            let fault = |at| [&one[..], &[Event { kind: Kind::Fault, at }]].concat();
            schedules.extend(path.may_fault().next().map(fault));
        }
        for (i, schedule) in schedules.iter().enumerate() {
            match self.written_by(schedule) {
                Ok(changes) => footprint.add(&changes),
                // The sweep will say so; less may be written then.
                Err(why) if i > 0 => log::warn!("what more than one NMI, or a fault, writes is not known: {why}"),
                Err(why) => return Err(why),
            }
        }
        log::info!("NMIs at {} write {}", self.show(self.start().addr), footprint.names(&self.pc).join(", "));
        self.footprints.insert(self.site.clone(), footprint.clone());
        self.reference.footprint = footprint;
        Ok(())
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
            let Mutation { addr, bytes } = check::mutation(mutation, &pc.symbols)?;
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
        let irets = entry_irets(pc, kernel, &path);
        stand_at(&site, pc, kernel, &path)?;
        let mut snapshot = pc.snapshot(room)?;
        // As every case finds it.
        pc.restore(&mut snapshot)?;
        let reference = Reference::of(pc, kernel)?;
        pc.set_silent(kernel.is_silent());
        Ok(Self { path, irets, site, snapshot, reference })
    }
}

/// Runs to a site. The user program raises no exception; so where the site is the handler of one that
/// the lab can raise, it is raised at the default site.
fn stand_at(site: &Site, pc: &mut Pc, kernel: &dyn Kernel, path: &EntryPath) -> Result<(), LabError> {
    let handler = |nr: u8| matches!(site, Site::Kernel(addr) if pc.handler(nr) == Some(*addr));
    let fault = match (handler(vector::BP), handler(vector::PF)) {
        (true, _) => kernel.fault(pc, path, FaultBy::Breakpoint)?,
        (_, true) => kernel.fault(pc, path, FaultBy::Spurious)?,
        _ => None,
    };
    if fault.is_some() {
        Site::Kernel(kernel.default_site()?).reach(pc, SITE_LIMIT)?;
    }
    let stop = match fault {
        Some(Fault::Breakpoint) => pc.breakpoint(SITE_LIMIT)?,
        Some(Fault::Page(fault)) => pc.page_fault(fault, SITE_LIMIT)?,
        Some(Fault::Detour(_)) | None => return Ok(site.reach(pc, SITE_LIMIT)?),
    };
    Ok(raised(pc, &stop)?)
}

/// Every iretq of the kernel's entry code, and those of the NMI's path.
fn entry_irets(pc: &Pc, kernel: &dyn Kernel, path: &EntryPath) -> Vec<u64> {
    const IRETQ: [u8; 2] = [0x48, 0xcf];
    let is_iret = |d: &Decoded| d.flow == Flow::Iret;
    let code = kernel.entry_code(&pc.symbols).into_iter();
    let mut out: Vec<u64> = code.flat_map(|range| pc.find_code(range, &[&IRETQ], is_iret)).collect();
    out.extend(&path.irets);
    out.sort_unstable();
    out.dedup();
    out
}
