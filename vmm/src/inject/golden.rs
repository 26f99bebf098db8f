//! A session's beginning: the guest is booted, and the run without NMIs is made that every other
//! run is compared with.

use std::sync::Arc;

use guest::abi;

use super::rounds::{GOLDEN_STEPS, Rounds};
use super::session::Session;
use super::stop;
use crate::image::Guest;
use crate::image::declare::{Scenario, Scheme};
use crate::kvm::Host;
use crate::machine::paging::ROOT;
use crate::machine::{Error, Knobs, Machine, Stop};
use crate::oracle::{Golden, Oracle, Rules, Verdict, Visit};

impl Session {
    /// Boots the guest and makes the golden run.
    pub fn new(
        host: &Host,
        guest: &Arc<Guest>,
        scheme: &Scheme,
        scenario: &Scenario,
        knobs: Knobs,
    ) -> Result<Self, Error> {
        let machine = Machine::boot(host, guest, scheme, scenario, knobs)?;
        let rules = Rules::new(&machine, scheme, scenario, Golden::default());
        if let Some(at) = rules.unread_idle() {
            return Err(Error::Contract(format!("the idle word at {at:#x} is not mapped at *ready*")));
        }
        let ready = machine.checkpoint();
        let live_stops = own_irets(machine.guest(), scheme);
        let oracle = Oracle::new(Arc::new(rules));
        let stops = Vec::with_capacity(live_stops.len() + 64);
        let mut session =
            Self { machine, oracle, ready, live_stops, stops, suspects: Vec::new(), advances: 0, late: false };
        let golden = session.make_golden()?;
        let rules = Rules::new(session.machine_at_ready(), scheme, scenario, golden);
        session.oracle = Oracle::new(Arc::new(rules));
        Ok(session)
    }

    fn machine_at_ready(&mut self) -> &Machine {
        self.machine.restore(&self.ready);
        &self.machine
    }

    fn make_golden(&mut self) -> Result<Golden, Error> {
        self.oracle.recorded = Some(Vec::new());
        self.machine.forget_read_time();
        let mut counts = std::collections::HashMap::<u64, u32>::new();
        let mut golden = Golden::default();
        let mut rounds = Rounds::default();
        loop {
            if rounds.repeats(self).is_some() {
                let at = self.rules().names().show(self.machine.rip());
                return Err(Error::Golden(format!("never ends: it goes round at {at}")));
            }
            if rounds.golden_limit() {
                return Err(Error::Golden(format!("has not ended after {GOLDEN_STEPS} instructions")));
            }
            if stop::requested() {
                return Err(Error::Interrupted);
            }
            let sregs = &self.machine.state().sregs;
            let root = sregs.cr3 & ROOT;
            if sregs.cs.selector & 3 == 3 && !golden.user_roots.contains(&root) {
                golden.user_roots.push(root);
            }
            let addr = self.machine.rip();
            let n = counts.entry(addr).or_default();
            *n += 1;
            let (blocked, shadow) = (self.machine.blocked(), self.machine.in_shadow());
            golden.visits.push(Visit { addr, n: *n, blocked, shadow });
            let stop = self.machine.step()?;
            match stop {
                Stop::Hypercall(abi::PORT_SCENARIO_END) => break,
                Stop::Hypercall(abi::PORT_PANIC) => {
                    return Err(Error::Golden(format!("panicked: {}", self.machine.panic_message())));
                }
                _ => {}
            }
            if let Some(verdict) = self.observe(&stop, None) {
                return Err(match verdict {
                    Verdict::HostLimit { why } => Error::Limit(why.clone()),
                    verdict => Error::Golden(format!("fails: {verdict}")),
                });
            }
        }
        let end = self.machine.checkpoint();
        golden.traps = self.oracle.recorded.take().unwrap_or_default();
        golden.checksum = end.vcpu.regs.rdi;
        golden.rsp = end.vcpu.regs.rsp;
        golden.pages = end.pages;
        golden.reads_time = self.machine.read_time();
        Ok(golden)
    }
}

/// The iretqs that do not belong to another scheme.
fn own_irets(guest: &Guest, scheme: &Scheme) -> Vec<u64> {
    let others: Vec<&str> = guest
        .image
        .declared
        .schemes
        .iter()
        .map(|s| s.prefix.as_str())
        .filter(|p| !p.is_empty() && *p != scheme.prefix)
        .collect();
    let foreign = |addr: u64| {
        let symbol = guest.image.symbols.nearest_code(addr, &scheme.prefix);
        symbol.is_some_and(|s| others.iter().any(|p| s.name.starts_with(p)))
    };
    guest.code.irets().iter().copied().filter(|a| !foreign(*a)).collect()
}
