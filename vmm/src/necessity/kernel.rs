//! Which instruction of a real kernel's NMI entry code is needed, and for what: each is replaced by NOPs
//! in turn, and every case that the kernel as it is passes is run again, until one fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use iced_x86::Mnemonic;

use super::{Asked, Finding, Header, Necessity, Need, rule};
use crate::folder::{self, Ended, Filled, Queue, Step, Watcher};
use crate::image::{Decoded, Mode};
use crate::inject::Gear;
use crate::kernels::pc::Error;
use crate::kernels::{
    Alone, Case, FaultBy, KernelInfo, Kind, Lab, LabError, Open, Part, Row, Start, Sweep, SweepError, replay, resolve,
};
use crate::oracle::Verdict;

/// What to ask of a kernel.
pub struct Question<'a> {
    /// Changes that are made before any other.
    pub mutate: &'a [String],
    /// Where NMI #1 arrives.
    pub sites: &'a [String],
    /// What comes after it.
    pub parts: &'a [Part],
    /// Ask every site, and not only until one shows a defect.
    pub every_site: bool,
    /// The words that run this kernel again.
    pub command: &'a str,
    /// CPU time for a case, in milliseconds.
    pub case_limit: u64,
}

impl Question<'_> {
    /// What answers depend on besides the kernel's image, the sites and the instructions.
    fn how(&self, words: &str) -> String {
        let parts: Vec<&str> = self.parts.iter().map(|part| part.word()).collect();
        let limit = self.case_limit;
        format!("the words {words:?}, the changes {:?}, {}, {limit} ms a case", self.mutate, parts.join(","))
    }
}

/// A site, and the cases that the kernel as it is passes there.
struct Golden {
    asked: String,
    name: String,
    cases: Vec<Case>,
}

/// An instruction of the entry code.
struct Target {
    place: String,
    decoded: Decoded,
}

/// Asks, for each instruction, on all threads. `on_site` is called before the kernel as it is is
/// tried at one. Returns whether everything asked for was done, too.
pub fn necessity(
    mut lab: Lab,
    (ask, kernel): (&Question<'_>, &KernelInfo),
    open: &Open<'_>,
    folder: &folder::Options,
    on_site: &mut dyn FnMut(&str),
    watcher: &mut dyn Watcher,
) -> Result<(Necessity, bool), SweepError> {
    lab.set_limit(Duration::from_millis(ask.case_limit));
    let (golden, asked, targets) = as_it_is(&mut lab, ask, folder.stop, on_site)?;
    let (host, image, version) = (lab.host().clone(), kernel.image.clone(), kernel.version.clone());
    let mut header = Header::of(host, image, version, Mode::Native);
    (header.scenarios, header.every_scenario, header.shard) = (asked, ask.every_site, folder.shard);
    header.asked_how = ask.how(&kernel.cmdline);
    header.changes = targets.keys().map(|at| format!("removed@{at:#x}")).collect();
    drop(lab);
    let targets: Vec<(u64, Target)> = targets.into_iter().collect();
    let work = |queue: &Queue<Finding, SweepError>| {
        let Some(mut unit) = queue.take() else { return Ok(()) };
        let mut lab = open()?;
        lab.set_limit(Duration::from_millis(ask.case_limit));
        loop {
            let (start, Some((_, target))) = (Instant::now(), targets.get(unit as usize)) else { return Ok(()) };
            let Some(result) = one(&mut lab, ask, &golden, target, queue.stop())? else { return Ok(()) };
            queue.ended(Ended { unit, result, took: start.elapsed(), whole: true });
            match queue.take() {
                Some(next) => unit = next,
                None => return Ok(()),
            }
        }
    };
    let mut on_unit = |step: &Step<Finding>, watcher: &mut dyn Watcher| {
        watcher.unit(&kernel.version, &step.result.place, 1);
        Ok(())
    };
    let Filled { units, finished, .. } = folder::fill(&header, folder, watcher, &work, &mut on_unit)?;
    Ok((header.answer(units.into_values().collect()), finished))
}

type AsItIs = (Vec<Golden>, Vec<Asked>, BTreeMap<u64, Target>);

/// Runs every case on the kernel as it is. Only those that it passes can show that a change breaks
/// something. Finds the instructions, too: those of the NMI's entry, and all other entry code that
/// is come to.
fn as_it_is(
    lab: &mut Lab,
    ask: &Question<'_>,
    stop: &AtomicBool,
    on_site: &mut dyn FnMut(&str),
) -> Result<AsItIs, SweepError> {
    let (mut golden, mut left_out, mut targets) = (Vec::new(), Vec::new(), BTreeMap::new());
    for site in ask.sites {
        let name = name(lab, site);
        on_site(&name);
        match try_site(lab, ask, site, stop, &mut targets) {
            Ok(cases) => golden.push(Golden { asked: site.clone(), name, cases }),
            Err(LabError::Machine(e @ (Error::Kvm(_) | Error::Interrupted))) => return Err(LabError::from(e).into()),
            Err(why) => left_out.push(Asked { scenario: name, states: 0, left_out: Some(why.to_string()) }),
        }
    }
    if golden.is_empty() {
        let why: Vec<String> = left_out.into_iter().filter_map(|a| a.left_out).collect();
        return Err(LabError::Single("any site".into(), why.join("; ")).into());
    }
    golden.sort_by_key(|g| g.cases.len());
    let asked = golden.iter().map(|g| Asked { scenario: g.name.clone(), states: g.cases.len() as u64, left_out: None });
    let asked = asked.chain(left_out).collect();
    Ok((golden, asked, targets))
}

/// How a site is called; the kernel's own one, where none is named, by its label.
fn name(lab: &Lab, site: &str) -> String {
    match lab.kernel().default_site() {
        Ok(at) if site.is_empty() => lab.pc().symbols.show(at),
        _ => site.to_owned(),
    }
}

/// The cases of a site that must pass, and do.
fn try_site(
    lab: &mut Lab,
    ask: &Question<'_>,
    site: &str,
    stop: &AtomicBool,
    targets: &mut BTreeMap<u64, Target>,
) -> Result<Vec<Case>, LabError> {
    lab.go(ask.mutate, Start::Site(site))?;
    let mut sweep = Sweep::new(lab, 0, stop);
    let path = sweep.single()?;
    let cases = must_pass(&mut sweep, ask.parts)?;
    for case in &cases {
        if stop.load(Relaxed) {
            return Err(Error::Interrupted.into());
        }
        let row = sweep.one(case)?;
        if !row.outcome.verdict.is_pass() || row.is_silent() {
            let schedule = sweep.lab().show_schedule(&row.events);
            return Err(LabError::Single(schedule, format!("it breaks as it is: {}", row.outcome.verdict)));
        }
    }
    let lab = sweep.lab();
    let entry = lab.kernel().entry_code(&lab.pc().symbols);
    let own = lab.path().boundaries.iter().map(|b| b.addr);
    let visited = path.visits.iter().map(|v| v.at.addr).filter(|at| entry.iter().any(|code| code.contains(at)));
    for at in own.chain(visited) {
        let missing = Error::Unreadable { what: "an instruction of the entry code", addr: at };
        let decoded = lab.pc().instruction(at).ok_or(missing)?;
        if !matches!(decoded.insn.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
            let shown = lab.pc().symbols.show(at);
            let is_its = resolve(&shown, &lab.pc().symbols).is_ok_and(|found| found == at);
            targets.insert(at, Target { place: if is_its { shown } else { format!("{at:#x}") }, decoded });
        }
    }
    Ok(cases)
}

/// The cases of all parts that entry code must survive, one NMI's first.
fn must_pass(sweep: &mut Sweep<'_>, parts: &[Part]) -> Result<Vec<Case>, LabError> {
    let mut out = Vec::new();
    for part in parts {
        for kind in [Kind::Masked, Kind::Unmasked] {
            out.extend(sweep.cases(*part, kind)?.into_iter().filter(|case| case.expected.survives()));
        }
    }
    Ok(out)
}

/// One instruction; `None` where it was stopped.
fn one(
    lab: &mut Lab,
    ask: &Question<'_>,
    golden: &[Golden],
    target: &Target,
    stop: &AtomicBool,
) -> Result<Option<Finding>, SweepError> {
    let insn = &target.decoded.insn;
    let mutation = format!("{}={}", target.place, "90".repeat(insn.len()));
    let mut finding = Finding {
        address: insn.ip(),
        place: target.place.clone(),
        instruction: target.decoded.text(),
        source: None,
        change: "removed".into(),
        needs: Vec::new(),
        unknown: Vec::new(),
    };
    let mutate: Vec<String> = ask.mutate.iter().cloned().chain([mutation]).collect();
    for site in golden {
        let need = |rule, detail: String, schedule: String| Need {
            scenario: site.name.clone(),
            rule,
            detail,
            command: replay(ask.command, &mutate, FaultBy::default(), Gear::Jump.name(), ask.case_limit, &schedule),
            schedule,
        };
        match changed(lab, ask, site, &mutate, stop) {
            Ok(Answer::Broken(verdict, schedule)) => {
                finding.needs.push(need(Some(rule(&verdict)), verdict.to_string(), schedule));
                if !ask.every_site {
                    break;
                }
            }
            Ok(Answer::Same) => {}
            Ok(Answer::Unknown(why)) => finding.unknown.push((site.name.clone(), why)),
            Ok(Answer::Stopped) => return Ok(None),
            Err(LabError::Machine(e @ Error::Kvm(_))) => return Err(LabError::from(e).into()),
            // The kernel does not come to the site any more.
            Err(why @ LabError::Machine(Error::Boot { .. })) => {
                finding.needs.push(need(None, why.to_string(), String::new()));
                if !ask.every_site {
                    break;
                }
            }
            Err(why) => finding.unknown.push((site.name.clone(), why.to_string())),
        }
    }
    Ok(Some(finding))
}

/// What a changed kernel comes to at one site.
enum Answer {
    /// All that was tried passes.
    Same,
    /// A schedule that the kernel as it is passes, and this one does not.
    Broken(Verdict, String),
    /// Not known, and why.
    Unknown(String),
    /// It was stopped.
    Stopped,
}

fn changed(
    lab: &mut Lab,
    ask: &Question<'_>,
    site: &Golden,
    mutate: &[String],
    stop: &AtomicBool,
) -> Result<Answer, LabError> {
    lab.go(mutate, Start::Site(&site.asked))?;
    let mut sweep = Sweep::new(lab, 0, stop);
    match sweep.alone()? {
        Alone::Breaks(verdict @ Verdict::HostLimit { .. }) => return Ok(Answer::Unknown(verdict.to_string())),
        Alone::Breaks(verdict) => {
            let alone = sweep.first();
            return Ok(Answer::Broken(verdict, sweep.lab().show_schedule(&alone)));
        }
        Alone::Unsaid(why) => return Ok(Answer::Unknown(why)),
        Alone::Passes(_) => {}
    }
    if let Some(answer) = tried(&mut sweep, &site.cases, false, stop)? {
        return Ok(answer);
    }
    // Boundaries of the way that it goes now, which may be another, say something, too.
    let mut own = must_pass(&mut sweep, ask.parts)?;
    own.retain(|case| site.cases.iter().all(|golden| golden.events != case.events));
    Ok(tried(&mut sweep, &own, true, stop)?.unwrap_or(Answer::Same))
}

/// What cases come to; `None` where all pass. Boundaries of another way (`own`: of its present one)
/// may not be come to.
fn tried(sweep: &mut Sweep<'_>, cases: &[Case], own: bool, stop: &AtomicBool) -> Result<Option<Answer>, LabError> {
    let mut unreached = None;
    for case in cases {
        if stop.load(Relaxed) {
            return Ok(Some(Answer::Stopped));
        }
        let Row { events, outcome, .. } = sweep.one(case)?;
        let schedule = || sweep.lab().show_schedule(&events);
        match outcome.verdict {
            Verdict::HostLimit { why } => return Ok(Some(Answer::Unknown(why))),
            verdict if !verdict.is_pass() => return Ok(Some(Answer::Broken(verdict, schedule()))),
            _ if own && outcome.unreached > 0 => unreached = Some(schedule()),
            _ => {}
        }
    }
    Ok(unreached.map(|schedule| Answer::Unknown(format!("it does not go the same way twice: {schedule}"))))
}
