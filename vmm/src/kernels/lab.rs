//! A kernel that has booted, and stands where the first NMI arrives.

use std::collections::HashMap;
use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::entry::EntryPath;
use super::error::LabError;
use super::fault_by::FaultBy;
use super::footprint::Footprint;
use super::kernel::Kernel;
use super::pc::{About, Pc, Snapshot};
use super::reference::{Reference, comparable, whole};
use super::site::{Site, boundary};
use crate::host_id::HostId;
use crate::inject::{At, Event, Kind, Schedule};
use crate::kvm::Host;

/// The lab with a kernel in it.
pub struct Lab {
    pub(super) host: HostId,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) pc: Pc,
    pub(super) path: EntryPath,
    /// The kernel as it came up, without any mutation.
    pub(super) home: Snapshot,
    pub(super) mutations: Vec<String>,
    pub(super) snapshot: Snapshot,
    pub(super) site: Site,
    pub(super) reference: Reference,
    /// What NMIs write, by site.
    pub(super) footprints: HashMap<Site, Footprint>,
    /// Every iretq of the kernel's entry code.
    pub(super) irets: Vec<u64>,
    /// CPU time that one case may take, after which it is a livelock.
    pub(super) limit: Duration,
    /// What a fault in a schedule is.
    pub(super) fault_by: FaultBy,
    /// Whether the last case that used up its time was seen to go round.
    pub(super) went_round: bool,
}

impl Lab {
    /// What NMIs may write outside their stacks, by name.
    pub fn written(&self) -> Vec<String> {
        self.reference.footprint.names(&self.pc)
    }

    /// What lies at a guest-physical address, by name.
    pub fn name_of(&self, at: u64) -> String {
        super::footprint::name(&self.pc, at)
    }

    /// Whether a guest-physical address is on the part of the interrupted stack that is in
    /// use.
    pub(super) fn on_interrupted_stack(&self, at: u64) -> bool {
        let rsp = self.pc.physical(self.snapshot.vcpu().regs.rsp);
        !self.site.is_user() && self.site.has_stack() && rsp.is_some_and(|rsp| (rsp..=rsp | 0xfff).contains(&at))
    }

    /// The machine as it came up, in the bytes of a file: what a twin starts from.
    pub fn seed(&self, host: &Host) -> Result<Vec<u8>, LabError> {
        Ok(self.pc.save(host, &self.home, About::default())?)
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

    /// What a fault in a schedule is.
    pub fn fault_by(&self) -> FaultBy {
        self.fault_by
    }

    /// Sets it, from the next [`Lab::go`] on.
    pub fn set_fault_by(&mut self, by: FaultBy) {
        if self.fault_by != by {
            // What NMIs write was learnt with other faults.
            self.footprints.clear();
        }
        self.fault_by = by;
    }

    /// The boundary where the first NMI arrives.
    pub fn start(&self) -> At {
        At { addr: self.snapshot.vcpu().regs.rip, n: 1 }
    }

    /// How an address is written in a schedule.
    pub fn show(&self, addr: u64) -> String {
        match self.site.name().filter(|_| addr == self.start().addr) {
            Some(name) => name.into(),
            None => self.pc.symbols.show(addr),
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
        let mut schedule = Schedule::parse_for_kernel(text, |place| match place {
            name if Site::is_name(name) => Ok(start),
            place => boundary(place, &self.pc),
        })?;
        if schedule.0.first().is_some_and(|e| self.path.contains(e.at.addr)) {
            schedule.0.insert(0, Event { kind: Kind::Nmi, at: self.start() });
        }
        match schedule.0.iter().find(|e| e.kind == Kind::Fault && e.at.addr == start) {
            Some(fault) => Err(LabError::FaultAtSite(self.show(fault.at.addr))),
            None => Ok(schedule),
        }
    }

    /// A number for all of RAM and the registers as a case has left them.
    pub fn number(&self) -> Result<u64, LabError> {
        let state = format!("{:?} {:?}", whole(&self.pc)?, comparable(self.pc.lazy()?));
        Ok(xxh3_64_with_seed(self.pc.ram(), xxh3_64(state.as_bytes())))
    }

    /// Restores the snapshot; for measurements.
    pub fn restore(&mut self) -> Result<usize, LabError> {
        self.pc.restore(&mut self.snapshot)?;
        Ok(self.snapshot.pages_restored())
    }
}
