//! How long restores and cases take.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::LabError;
use super::lab::Lab;
use super::pc::Assists;
use super::row::KernelInfo;
use crate::host_id::HostId;
use crate::inject::{Event, Gear, Kind};

const ROUNDS: usize = 400;

/// The measurements: medians, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Where they were made.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// Boundaries of one NMI's path, from where the first NMI arrives.
    pub boundaries: usize,
    /// Pages that a restore puts back.
    pub restore_pages: usize,
    /// A restore after a case.
    pub restore_ns: u64,
    /// A case, from the restore to its verdict: by the vCPU's events, and by `KVM_NMI`.
    pub one_nmi: Gears,
    /// The same with an NMI #2 that is latched.
    pub two_nmis_latched: Gears,
    /// The same with an NMI #2 that nests.
    pub two_nmis_nested: Gears,
}

/// One case by either way to raise NMIs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gears {
    /// By the vCPU's events.
    pub jump_ns: u64,
    /// By `KVM_NMI`.
    pub arm_ns: u64,
}

/// Measures a booted lab.
pub fn bench(lab: &mut Lab, kernel: KernelInfo) -> Result<Bench, LabError> {
    let one = vec![Event { kind: Kind::Nmi, at: lab.start() }];
    let path = lab.walk(&one)?;
    let in_c = path.visits.iter().find(|v| v.frame_read_at.is_none()).map_or(lab.start(), |v| v.at);
    let latched = [one.clone(), vec![Event { kind: Kind::Nmi, at: in_c }]].concat();
    let nested =
        [one.clone(), vec![Event { kind: Kind::Unmask, at: in_c }, Event { kind: Kind::Nmi, at: in_c }]].concat();
    let mut restore_pages = 0;
    let restore_ns = median(|| {
        lab.case(&one, Gear::Jump)?;
        let start = Instant::now();
        restore_pages = lab.restore()?;
        Ok(start.elapsed())
    })?;
    let mut case = |events: &[Event]| -> Result<Gears, LabError> {
        let mut each = |gear| {
            median(|| {
                let start = Instant::now();
                lab.case(events, gear)?;
                Ok(start.elapsed())
            })
        };
        Ok(Gears { jump_ns: each(Gear::Jump)?, arm_ns: each(Gear::Arm)? })
    };
    let (one_nmi, two_nmis_latched, two_nmis_nested) = (case(&one)?, case(&latched)?, case(&nested)?);
    Ok(Bench {
        host: lab.host().clone(),
        kernel,
        assists: lab.pc().assists(),
        boundaries: path.visits.len(),
        restore_pages,
        restore_ns,
        one_nmi,
        two_nmis_latched,
        two_nmis_nested,
    })
}

fn median(mut each: impl FnMut() -> Result<Duration, LabError>) -> Result<u64, LabError> {
    let mut all = (0..ROUNDS).map(|_| each()).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    Ok(u64::try_from(all[ROUNDS / 2].as_nanos()).unwrap_or(u64::MAX))
}

impl std::fmt::Display for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "host    {}", self.host)?;
        writeln!(f, "kernel  {} ({})", self.kernel.version, self.kernel.image)?;
        writeln!(f, "help for this host: {}\n", self.assists)?;
        let mut line = |what: &str, ns: u64| writeln!(f, "{what:44} {:9.1} us", ns as f64 / 1e3);
        line(&format!("restore after a case ({} pages)", self.restore_pages), self.restore_ns)?;
        for (what, gears) in [
            ("one NMI", self.one_nmi),
            ("two NMIs, #2 latched", self.two_nmis_latched),
            ("two NMIs, #2 nested", self.two_nmis_nested),
        ] {
            line(&format!("case with {what}, by events"), gears.jump_ns)?;
            line(&format!("case with {what}, by KVM_NMI"), gears.arm_ns)?;
        }
        writeln!(f, "\nMedians of {ROUNDS}; one NMI's path has {} boundaries", self.boundaries)
    }
}
