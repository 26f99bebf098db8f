//! `vmm list`: schemes, scenarios, boundaries.

use std::collections::HashMap;
use std::sync::Arc;

use clap::Subcommand;

use super::args::{GuestArgs, ImageArgs, TargetArgs};
use super::failure::{Ending, Failure};
use super::guest::load;
use super::help;
use super::opened::Opened;
use super::out::Out;
use super::output::{OutputArgs, Outputs};
use crate::image::Guest;
use crate::image::Names;
use crate::image::target::Target;
use crate::inject::{At, Event, Gear, Kind, Schedule, Session, Visitor, run};
use crate::machine::Knobs;
use crate::report::{Boundary, BoundaryList, Kind as Reports, Masked, ScenarioList, SchemeList};

/// What `list` lists.
#[derive(Debug, Subcommand)]
pub enum List {
    /// Ways to enter and leave an NMI
    Schemes {
        /// Those that test the oracle or show bugs of history, too
        #[arg(long)]
        all: bool,
        /// The image.
        #[command(flatten)]
        image: ImageArgs,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What the guest does while NMIs arrive
    Scenarios {
        /// The image.
        #[command(flatten)]
        image: ImageArgs,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Every boundary that a run comes to: where an NMI can arrive
    #[command(after_help = help::BOUNDARIES)]
    #[command(override_usage = "vmm list boundaries --scheme <S> --scenario <C> [OPTIONS]\n       \
        vmm list boundaries --kernel <FILE> [OPTIONS]")]
    #[command(mut_arg("guest", |a| a.conflicts_with("kernel")), mut_arg("entry", |a| a.conflicts_with("kernel")))]
    #[command(mut_arg("scheme", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    #[command(mut_arg("scenario", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    Boundaries {
        /// Whose boundaries.
        #[command(flatten)]
        target: Option<TargetArgs>,
        /// The guest.
        #[command(flatten)]
        guest: GuestArgs,
        /// List the boundaries on the path of this schedule [default: the golden run, then
        /// what one NMI at its first boundary adds]
        #[arg(long, value_name = "SCHEDULE")]
        path: Option<String>,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
        /// Or those of a real kernel.
        #[command(flatten)]
        kernel: Box<super::linux::KernelArgs>,
    },
}

/// Carries out the command.
pub fn list(what: &List, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    match what {
        List::Schemes { all, image, output } => {
            let guest = load(image)?;
            schemes(&guest, *all, &output.outputs(Reports::TELLS)?, out)?;
        }
        List::Scenarios { image, output } => {
            let guest = load(image)?;
            let list = ScenarioList { image: &guest.image.hash, scenarios: &guest.image.declared.scenarios };
            output.outputs(Reports::TELLS)?.write(&list, out)?;
        }
        List::Boundaries { target: Some(target), guest: args, path, output, .. } => {
            let guest = load(&args.image)?;
            boundaries(
                &guest,
                (target, target.knobs(args)),
                path.as_deref(),
                &output.outputs(Reports::TELLS)?,
                opened,
                out,
            )?;
        }
        List::Boundaries { kernel, path, output, .. } => {
            super::linux::boundaries(kernel, path.as_deref(), &output.outputs(Reports::TELLS)?, opened, out)?;
        }
    }
    Ok(Ending::Expected)
}

fn schemes(guest: &Guest, all: bool, outputs: &Outputs, out: &mut Out) -> Result<(), Failure> {
    let declared = &guest.image.declared.schemes;
    let schemes: Vec<_> = declared.iter().filter(|s| all || !s.exhibit()).collect();
    let hidden = declared.len() - schemes.len();
    outputs.write(&SchemeList { image: &guest.image.hash, schemes, hidden }, out)
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
    (target, knobs): (&TargetArgs, Knobs),
    path: Option<&str>,
    outputs: &Outputs,
    opened: Opened,
    out: &mut Out,
) -> Result<(), Failure> {
    let found = Target::find(&guest.image.declared, &target.scheme, &target.scenario, target.mode)?;
    let schedule = path.map(|text| Schedule::parse(text, Names::new(guest, &found.scheme.prefix))).transpose()?;
    let mut session = Session::new(&opened.host()?, guest, &found.scheme, &found.scenario, knobs)?;
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
    let list = BoundaryList {
        image: guest.image.hash.clone(),
        scheme: found.scheme.name.clone(),
        scenario: found.scenario.name.clone(),
        mode: found.scheme.mode,
        boundaries: list,
        notes,
    };
    outputs.write(&list, out)
}
