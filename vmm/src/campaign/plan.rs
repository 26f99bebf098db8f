//! A campaign resolved against an image: which schemes and scenarios, and into how
//! many units of work each is divided. Units are numbered densely and purely: the
//! same campaign and image give the same numbers everywhere.

use std::sync::Arc;

use super::error::Error;
use super::file::{Campaign, Located, Names};
use super::generate::{Closure, Generate, Window, draw, fits};
use crate::image::Guest;
use crate::image::Names as Labels;
use crate::image::declare::{Declarations, Scenario, Scheme};
use crate::image::target::{Target, TargetError, find_scenario, find_scheme, fit, wrong_mode};
use crate::inject::{Places, Schedule, Session};
use crate::kvm::Host;
use crate::machine::{self, Knobs};
use crate::oracle::Expectation;

/// Most random schedules of a campaign, all of which are held in memory, in about 64 bytes each.
const MOST_DRAWN: u64 = 20_000_000;

/// One scheme and scenario of a campaign.
pub struct Cell {
    /// The scheme and scenario, as the image declares them.
    pub target: Target,
    /// What the campaign says that its verdict is.
    pub expected: Expectation,
    /// Number of its first unit.
    pub first_unit: u64,
    /// How many units it has.
    pub units: u64,
    /// What they consist of.
    pub work: Work,
}

/// What the units of a cell consist of.
pub enum Work {
    /// A unit for each golden boundary: the cases whose first NMI arrives there.
    Sweep {
        /// Most NMIs.
        depth: usize,
        /// Where the first arrives.
        first: Places,
        /// Only every so many golden boundaries get a first NMI.
        every: usize,
        /// Where the later ones arrive.
        later: Arc<Places>,
    },
    /// A unit for each golden boundary: the schedules drawn that begin there.
    Random(Vec<Vec<Vec<u32>>>),
    /// A unit for each schedule.
    Schedules(Vec<Schedule>),
    /// One unit: the explorer's search.
    Closure(Closure),
    /// One unit: this host cannot run any case, and why.
    HostLimit(String),
}

/// A campaign, ready to be run.
pub struct Plan {
    /// The file.
    pub campaign: Campaign,
    /// The image.
    pub guest: Arc<Guest>,
    /// Schemes × scenarios, in the order of the file.
    pub cells: Vec<Cell>,
}

impl Plan {
    /// Resolves a campaign. Boots each scheme and scenario once, to learn the length of
    /// its golden run.
    pub fn new(campaign: Campaign, guest: &Arc<Guest>, host: &Host) -> Result<Self, Error> {
        let declared = &guest.image.declared;
        let resolve = Resolve { campaign: &campaign, declared, guest };
        let (schemes, scenarios) = (resolve.schemes()?, resolve.scenarios()?);
        resolve.check_expectations(&schemes, &scenarios)?;
        resolve.check_window(&schemes)?;
        let mut cells: Vec<Cell> = Vec::new();
        for scheme in schemes {
            for scenario in scenarios.iter().filter(|scenario| fit(scheme, scenario)) {
                if let Generate::Random(random) = &campaign.generate.value
                    && random.count.saturating_mul(cells.len() as u64 + 1) > MOST_DRAWN
                {
                    let why = format!("generate: random: more than {MOST_DRAWN} schedules in all; lower count");
                    return Err(campaign.error(campaign.generate.line, why));
                }
                let target = Target { scheme: scheme.clone(), scenario: (*scenario).clone() };
                let expected = resolve.expected(&target);
                let first_unit = cells.last().map_or(0, |c| c.first_unit + c.units);
                let golden = match golden_len(&target, guest, host, campaign.knobs) {
                    Err(Error::Machine { why: machine::Error::Limit(why), .. }) => Err(why),
                    other => Ok(other?),
                };
                let (work, golden) = match golden {
                    Ok(golden) => (resolve.work(&target, cells.len() as u64, golden)?, golden),
                    Err(why) => (Work::HostLimit(why), 0),
                };
                let units = match &work {
                    Work::Schedules(list) => list.len() as u64,
                    Work::Random(list) => list.len() as u64,
                    Work::Closure(_) | Work::HostLimit(_) => 1,
                    Work::Sweep { .. } => golden as u64,
                };
                cells.push(Cell { target, expected, first_unit, units, work });
            }
        }
        if cells.is_empty() {
            return Err(campaign.error(1, "its scenarios run user code, and none of its schemes can"));
        }
        Ok(Self { guest: Arc::clone(guest), cells, campaign })
    }

    /// How many units there are.
    pub fn units(&self) -> u64 {
        self.cells.last().map_or(0, |c| c.first_unit + c.units)
    }

    /// The number of the cell that a unit belongs to.
    pub fn cell_of(&self, unit: u64) -> usize {
        self.cells.partition_point(|c| c.first_unit + c.units <= unit)
    }
}

fn golden_len(target: &Target, guest: &Arc<Guest>, host: &Host, knobs: Knobs) -> Result<usize, Error> {
    let session = open(target, guest, host, knobs)?;
    Ok(crate::inject::Sweep::units(&session))
}

/// Boots a target.
pub fn open(target: &Target, guest: &Arc<Guest>, host: &Host, knobs: Knobs) -> Result<Session, Error> {
    Session::new(host, guest, &target.scheme, &target.scenario, knobs).map_err(|why| Error::Machine {
        scheme: target.scheme.name.clone(),
        scenario: target.scenario.name.clone(),
        why,
    })
}

/// Resolves the names of a file.
struct Resolve<'a> {
    campaign: &'a Campaign,
    declared: &'a Declarations,
    guest: &'a Arc<Guest>,
}

impl<'a> Resolve<'a> {
    fn at<T>(&self, name: &Located<String>, result: Result<T, TargetError>) -> Result<T, Error> {
        result.map_err(|e| self.campaign.error(name.line, e.to_string()))
    }

    fn schemes(&self) -> Result<Vec<&'a Scheme>, Error> {
        let modes = &self.campaign.modes;
        let in_mode = |s: &&Scheme| modes.is_empty() || modes.contains(&s.mode);
        let all = self.declared.schemes.iter().filter(in_mode);
        let mut out: Vec<&Scheme> = Vec::new();
        match &self.campaign.schemes {
            Names::All => out.extend(all.filter(|s| !s.exhibit())),
            Names::List(list) => {
                for name in list {
                    if name.value.contains('*') {
                        let before = out.len();
                        out.extend(all.clone().filter(|s| fits(&name.value, &s.name)));
                        if out.len() == before {
                            return Err(self.campaign.error(name.line, format!("no scheme fits {:?}", name.value)));
                        }
                        continue;
                    }
                    let scheme = self.at(name, find_scheme(self.declared, &name.value))?;
                    if !in_mode(&scheme) {
                        self.at(name, Err(wrong_mode(self.declared, scheme, modes[0])))?;
                    }
                    out.push(scheme);
                }
            }
        }
        let names = out.iter().map(|s| s.name.as_str());
        self.no_doubles("scheme", names, &self.campaign.schemes)?;
        if out.is_empty() {
            return Err(self.campaign.error(1, "no scheme of the image has one of its modes"));
        }
        Ok(out)
    }

    fn scenarios(&self) -> Result<Vec<&'a Scenario>, Error> {
        let mut out: Vec<&Scenario> = Vec::new();
        match &self.campaign.scenarios {
            Names::All => out.extend(&self.declared.scenarios),
            Names::List(list) => {
                for name in list {
                    if name.value.contains('*') {
                        let fitting = self.declared.scenarios.iter().filter(|s| fits(&name.value, &s.name));
                        let before = out.len();
                        out.extend(fitting);
                        if out.len() == before {
                            return Err(self.campaign.error(name.line, format!("no scenario fits {:?}", name.value)));
                        }
                        continue;
                    }
                    out.push(self.at(name, find_scenario(self.declared, &name.value))?);
                }
            }
        }
        self.no_doubles("scenario", out.iter().map(|s| s.name.as_str()), &self.campaign.scenarios)?;
        Ok(out)
    }

    fn no_doubles<'n>(&self, what: &str, names: impl Iterator<Item = &'n str>, list: &Names) -> Result<(), Error> {
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                let line = match list {
                    Names::List(list) => list.iter().rfind(|l| fits(&l.value, name)).map_or(1, |l| l.line),
                    Names::All => 1,
                };
                return Err(self.campaign.error(line, format!("{what} {name} is named twice")));
            }
        }
        Ok(())
    }

    /// Every expectation must be about something that is run.
    fn check_expectations(&self, schemes: &[&Scheme], scenarios: &[&Scenario]) -> Result<(), Error> {
        for e in &self.campaign.expect {
            self.at(&e.scheme, find_scheme(self.declared, &e.scheme.value))?;
            if !schemes.iter().any(|s| s.name == e.scheme.value) {
                let why = format!("expects something of {}, which this campaign does not run", e.scheme.value);
                return Err(self.campaign.error(e.scheme.line, why));
            }
            let pattern = e.scenario.value.contains('*');
            if !pattern {
                self.at(&e.scenario, find_scenario(self.declared, &e.scenario.value))?;
            }
            if !scenarios.iter().any(|s| fits(&e.scenario.value, &s.name)) {
                let why = format!("expects something of {}, which this campaign does not run", e.scenario.value);
                return Err(self.campaign.error(e.scenario.line, why));
            }
        }
        Ok(())
    }

    /// What the file expects: by the scenario's name, else by the longest pattern.
    fn expected(&self, target: &Target) -> Expectation {
        let about = |e: &&super::file::Expected| {
            e.scheme.value == target.scheme.name && fits(&e.scenario.value, &target.scenario.name)
        };
        let exact = |e: &&super::file::Expected| (e.scenario.value == target.scenario.name, e.scenario.value.len());
        self.campaign.expect.iter().filter(about).max_by_key(exact).map(|e| e.verdict.clone()).unwrap_or_default()
    }

    /// Every label of the window must be one of some scheme, and every scheme must have
    /// one of them.
    fn check_window(&self, schemes: &[&Scheme]) -> Result<(), Error> {
        let Some(Located { value: window, line }) = &self.campaign.window else { return Ok(()) };
        for patterns in [&window.first, &window.around] {
            for pattern in patterns {
                let one = std::slice::from_ref(pattern);
                if schemes.iter().all(|s| self.places(s, one, 0).is_empty()) {
                    let labels = labels(self.guest, schemes[0]);
                    let why = format!("window: no label fits {pattern:?}; {} has: {labels}", schemes[0].name);
                    return Err(self.campaign.error(*line, why));
                }
            }
            if let Some(scheme) =
                schemes.iter().find(|s| !patterns.is_empty() && self.places(s, patterns, 0).is_empty())
            {
                let (name, labels) = (&scheme.name, labels(self.guest, scheme));
                let why = format!("window: {name} has none of the labels {}; it has: {labels}", patterns.join(", "));
                return Err(self.campaign.error(*line, why));
            }
        }
        Ok(())
    }

    /// The instructions that belong to labels, and `within` more on both sides.
    fn places(&self, scheme: &Scheme, patterns: &[String], within: usize) -> Vec<u64> {
        let names = Labels::new(self.guest, &scheme.prefix);
        let all: Vec<u64> = self.guest.code.iter().map(|d| d.insn.ip()).collect();
        let fitting = all.iter().map(|a| patterns.iter().any(|p| fits(p, &names.label(*a)))).collect::<Vec<_>>();
        let near = |i: usize| {
            let (from, to) = (i.saturating_sub(within), (i + within + 1).min(all.len()));
            fitting[from..to].contains(&true)
        };
        (0..all.len()).filter(|i| near(*i)).map(|i| all[i]).collect()
    }

    fn restricted(&self, scheme: &Scheme, patterns: &[String], within: usize) -> Places {
        match patterns {
            [] => Places::All,
            _ => Places::only(self.places(scheme, patterns, within)),
        }
    }

    fn work(&self, target: &Target, cell: u64, golden: usize) -> Result<Work, Error> {
        let everywhere = Window { first: vec![], first_every: 1, around: vec![], within: 0 };
        let window = self.campaign.window.as_ref().map_or(&everywhere, |w| &w.value);
        Ok(match &self.campaign.generate.value {
            Generate::Depth(depth) => Work::Sweep {
                depth: *depth,
                first: self.restricted(&target.scheme, &window.first, 0),
                every: window.first_every,
                later: Arc::new(self.restricted(&target.scheme, &window.around, window.within)),
            },
            Generate::Closure(closure) => Work::Closure(closure.clone()),
            Generate::Random(random) => Work::Random(draw(random, cell, golden)),
            Generate::Schedules(list) => {
                let names = Labels::new(self.guest, &target.scheme.prefix);
                let parse = |text: &String| {
                    Schedule::parse(text, names).map_err(|e| {
                        let why = format!("{}: {e}", target.scheme.name);
                        self.campaign.error(self.campaign.generate.line, why)
                    })
                };
                Work::Schedules(list.iter().map(parse).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// The labels of a scheme, for messages.
fn labels(guest: &Guest, scheme: &Scheme) -> String {
    let own = guest.image.symbols.with_prefix(&scheme.prefix).filter(|s| s.code);
    let own: Vec<&str> = own.filter_map(|s| s.name.strip_prefix(scheme.prefix.as_str())).collect();
    own.join(", ")
}
