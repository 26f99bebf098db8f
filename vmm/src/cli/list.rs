//! `vmm list`: schemes, scenarios, boundaries.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::args::{List, TargetArgs};
use super::failure::{Ending, Failure};
use super::out::Out;
use crate::image::Names;
use crate::image::target::Target;
use crate::image::{Guest, Mode};
use crate::inject::{At, Event, Gear, Kind, Schedule, Session, Visitor, run};
use crate::report::columns;

/// Carries out the command.
pub fn list(what: &List, guest: &Arc<Guest>, out: &mut Out) -> Result<Ending, Failure> {
    match what {
        List::Schemes { all, json } => schemes(guest, *all, *json, out)?,
        List::Scenarios { json } => scenarios(guest, *json, out)?,
        List::Boundaries { target: Some(target), path, json, .. } => {
            boundaries(guest, target, path.as_deref(), *json, out)?
        }
        List::Boundaries { kernel, path, json, .. } => super::linux::boundaries(kernel, path.as_deref(), *json, out)?,
    }
    Ok(Ending::Expected)
}

#[derive(Serialize)]
struct SchemeRow<'a> {
    scheme: &'a str,
    mode: Mode,
    /// The invariant that it breaks on purpose.
    broken: Option<&'a str>,
    /// The bug of history that it has or repairs.
    gallery: Option<&'a str>,
    summary: &'a str,
}

fn schemes(guest: &Guest, all: bool, json: bool, out: &mut Out) -> Result<(), Failure> {
    let rows: Vec<SchemeRow> = guest
        .image
        .declared
        .schemes
        .iter()
        .filter(|s| all || !s.exhibit())
        .map(|s| SchemeRow {
            scheme: &s.name,
            mode: s.mode,
            broken: s.broken.as_deref(),
            gallery: s.gallery.as_deref(),
            summary: &s.summary,
        })
        .collect();
    if json {
        return out.json(&serde_json::json!({ "image": guest.image.hash, "schemes": rows }));
    }
    let lines = rows.iter().map(|r| {
        let why = match (r.broken, r.gallery) {
            (Some(rule), _) => format!("breaks {rule} on purpose: "),
            (None, Some(bug)) => format!("{bug}: "),
            (None, None) => String::new(),
        };
        [r.scheme.to_owned(), r.mode.to_string(), format!("{why}{}", r.summary)]
    });
    out.text(&columns(["SCHEME", "MODE", "ABOUT"], lines))?;
    let hidden = guest.image.declared.schemes.len() - rows.len();
    if hidden > 0 {
        out.line(&format!("\n{hidden} more test the oracle or show bugs of history: --all lists them."))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct ScenarioRow<'a> {
    scenario: &'a str,
    ring3: bool,
    redzone: bool,
    summary: &'a str,
}

fn scenarios(guest: &Guest, json: bool, out: &mut Out) -> Result<(), Failure> {
    let row = |s: &'_ crate::image::declare::Scenario| (s.name.clone(), s.ring3, s.redzone, s.summary.clone());
    let all: Vec<_> = guest.image.declared.scenarios.iter().map(row).collect();
    if json {
        let rows: Vec<ScenarioRow> = all
            .iter()
            .map(|(name, ring3, redzone, summary)| ScenarioRow {
                scenario: name,
                ring3: *ring3,
                redzone: *redzone,
                summary,
            })
            .collect();
        return out.json(&serde_json::json!({ "image": guest.image.hash, "scenarios": rows }));
    }
    let flags = |ring3: bool, redzone: bool| match (ring3, redzone) {
        (false, false) => "-",
        (true, false) => "ring3",
        (false, true) => "redzone",
        (true, true) => "ring3 redzone",
    };
    let lines = all.iter().map(|(n, r3, rz, s)| [n.clone(), flags(*r3, *rz).to_owned(), s.clone()]);
    out.text(&columns(["SCENARIO", "FLAGS", "ABOUT"], lines))
}

/// A boundary of a run, with all its visits.
#[derive(Serialize)]
struct Boundary {
    address: String,
    place: String,
    /// Visits on this path; `#1` to this number can be named.
    visits: u32,
    /// Whether NMIs are blocked there.
    masked: Masked,
    /// At some visit, in the shadow of a `mov %ss` or `sti`.
    shadow: bool,
    instruction: String,
    /// `file:line`, where the image has DWARF.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    path: &'static str,
    #[serde(skip)]
    addr: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Masked {
    No,
    Yes,
    Both,
}

/// Boundaries in the order of their first visit.
#[derive(Default)]
struct Collect {
    seen: Vec<Boundary>,
    index: HashMap<u64, usize>,
    path: &'static str,
}

impl Visitor for Collect {
    fn boundary(&mut self, session: &Session) {
        let m = session.machine();
        let (addr, blocked, shadow) = (m.rip(), m.blocked(), m.in_shadow());
        let masked = if blocked { Masked::Yes } else { Masked::No };
        let i = *self.index.entry(addr).or_insert_with(|| {
            let place = session.rules().names().show(addr);
            let instruction = m.next_instruction().map_or("(no instruction)".to_owned(), |d| d.text());
            let (address, path, source) = (format!("{addr:#x}"), self.path, m.guest().source(addr));
            self.seen.push(Boundary { address, place, visits: 0, masked, shadow, instruction, source, path, addr });
            self.seen.len() - 1
        });
        let seen = &mut self.seen[i];
        seen.visits += 1;
        seen.shadow |= shadow;
        if seen.masked != masked {
            seen.masked = Masked::Both;
        }
    }
}

fn boundaries(
    guest: &Arc<Guest>,
    target: &TargetArgs,
    path: Option<&str>,
    json: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let found = Target::find(&guest.image.declared, &target.scheme, &target.scenario, target.mode)?;
    let schedule = path.map(|text| Schedule::parse(text, Names::new(guest, &found.scheme.prefix))).transpose()?;
    let mut session = Session::new(&super::host::open()?, guest, &found.scheme, &found.scenario, target.knobs())?;
    let mut along = |schedule: &Schedule, name: &'static str| {
        let mut collect = Collect { path: name, ..Collect::default() };
        run(&mut session, schedule, Gear::Step, &mut collect).map(|verdict| (collect.seen, verdict))
    };
    let mut notes = Vec::new();
    let mut list;
    match &schedule {
        Some(schedule) => {
            let verdict;
            (list, verdict) = along(schedule, "schedule")?;
            notes.push(format!("This path's verdict: {verdict}."));
        }
        None => {
            list = along(&Schedule::default(), "golden")?.0;
            // The first boundary that an NMI is delivered at, and that is passed once.
            let first = list.iter().find(|b| b.masked == Masked::No && !b.shadow).map(|b| b.addr);
            if let Some(addr) = first {
                let nmi = Schedule(vec![Event { kind: Kind::Nmi, at: At { addr, n: 1 } }]);
                let known: Vec<u64> = list.iter().map(|b| b.addr).collect();
                let (more, verdict) = along(&nmi, "nmi")?;
                list.extend(more.into_iter().filter(|b| !known.contains(&b.addr)));
                let shown = nmi.show(session.rules().names());
                notes.push(format!("With one NMI (--path '{shown}', verdict: {verdict}), these are added:"));
            }
        }
    }
    if json {
        let all = serde_json::json!({
            "image": guest.image.hash, "scheme": found.scheme.name, "scenario": found.scenario.name,
            "mode": found.scheme.mode, "boundaries": list,
        });
        return out.json(&all);
    }
    let (nmi, golden): (Vec<_>, Vec<_>) = list.into_iter().partition(|b| b.path == "nmi");
    out.text(&table(&golden))?;
    for note in notes {
        out.line(&format!("\n{note}"))?;
    }
    if !nmi.is_empty() {
        out.line("")?;
        out.text(&table(&nmi))?;
    }
    Ok(())
}

fn table(list: &[Boundary]) -> String {
    let lines = list.iter().map(|b| {
        let visits = if b.visits == 1 { "#1".to_owned() } else { format!("#1..#{}", b.visits) };
        let masked = match b.masked {
            Masked::No => "open",
            Masked::Yes => "masked",
            Masked::Both => "both",
        };
        let shadow = if b.shadow { " shadow" } else { "" };
        let (nmis, instruction) = (format!("{masked}{shadow}"), b.instruction.replace('\t', " "));
        [b.address.clone(), b.place.clone(), visits, nmis, instruction, b.source.clone().unwrap_or_default()]
    });
    let source = if list.iter().any(|b| b.source.is_some()) { "SOURCE" } else { "" };
    columns(["ADDRESS", "BOUNDARY", "VISITS", "NMIS", "INSTRUCTION", source], lines)
}
