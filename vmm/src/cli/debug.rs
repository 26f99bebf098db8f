//! `vmm debug`: one run in gdb.

use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::boot::{Booted, Plan};
use super::case::{KernelCase, never, ready};
use super::failure::{Ending, Failure};
use super::linux::KernelArgs;
use super::opened::Opened;
use super::out::say;
use super::run::bare;
use super::values;
use crate::debug::{Address, KernelRun, Listener, Recording, Run};
use crate::image::target::Target;
use crate::image::{Guest, Mode, Names};
use crate::inject::{Gear, Replay, Schedule, Session};
use crate::kernels::FaultBy;
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;
use crate::report::plain;

/// `vmm debug`.
#[derive(Debug, Args)]
pub struct Debug {
    /// The line, as a failure printed it; or else --scheme, --scenario and --schedule
    #[arg(value_name = "LINE", required_unless_present_any = ["scheme", "kernel", "from"])]
    #[arg(conflicts_with_all = ["scheme", "scenario", "schedule", "mode", "faulting_iret", "hv_bug", "kernel", "from"])]
    pub line: Vec<String>,
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S", requires = "scenario", conflicts_with_all = ["kernel", "from"])]
    scheme: Option<String>,
    /// The scenario (see `vmm list scenarios`)
    #[arg(long, value_name = "C", requires = "scheme")]
    scenario: Option<String>,
    /// Insist on a mode; each scheme has one
    #[arg(long, value_name = "MODE", value_parser = values::mode())]
    mode: Option<Mode>,
    /// What arrives where, as in 'nmi@exit_iret#1 nmi@body+0x4#2' [default: nothing; a kernel needs one]
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Whether an IRET that faults unblocks NMIs all the same [default: unblocks]
    #[arg(long, value_name = "WHAT", value_parser = values::faulting_iret())]
    faulting_iret: Option<bool>,
    /// Play a bug that a hypervisor's NMI logic had
    #[arg(long, value_name = "NAME", value_parser = values::hv_bug())]
    hv_bug: Option<HvBug>,
    /// Where gdb connects to: PORT or HOST:PORT (0: any free port), or unix:PATH
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:1234")]
    pub listen: Address,
    /// With --kernel or --from: CPU time that the case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    case_limit: u64,
    /// With --kernel or --from: taken, as replay lines have it; a debugged case is stepped
    #[arg(long, value_name = "GEAR", hide = true, value_parser = values::one_gear())]
    gear: Option<Gear>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// A kernel in the guest's place.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

impl Debug {
    /// The case on a Linux kernel that its own options name, where they name one.
    pub fn case(&self) -> Option<&dyn KernelCase> {
        (self.kernel.kernel.is_some() || self.kernel.from.is_some()).then_some(self as &dyn KernelCase)
    }
}

/// Carries out the command.
pub fn debug(args: &Debug, guest: &Arc<Guest>, opened: Opened) -> Result<Ending, Failure> {
    let declared = &guest.image.declared;
    let line = match (&args.scheme, &args.scenario) {
        (Some(scheme), Some(scenario)) => {
            let target = Target::find(declared, scheme, scenario, args.mode)?;
            let faulting_iret_unblocks = args.faulting_iret.unwrap_or(Knobs::default().faulting_iret_unblocks);
            Replay {
                scheme: target.scheme.name.clone(),
                scenario: target.scenario.name.clone(),
                mode: target.scheme.mode,
                image: guest.image.hash.clone(),
                knobs: Knobs { faulting_iret_unblocks, hv_bug: args.hv_bug, transport: None },
                schedule: args.schedule.clone().unwrap_or_default(),
            }
        }
        _ => Replay::parse(bare(&args.line.join(" ")))?,
    };
    line.check_image(guest)?;
    let target =
        Target::find(declared, &line.scheme, &line.scenario, Some(line.mode)).map_err(Failure::ReplayTarget)?;
    let schedule = Schedule::parse(&line.schedule, Names::new(guest, &target.scheme.prefix))?;
    let knobs = Knobs { transport: args.guest.transport, ..line.knobs };
    let host = opened.host()?;
    let session = Session::new(&host, guest, &target.scheme, &target.scenario, knobs)?;
    serve(&args.listen, || Ok(Box::new(Recording::new(session, schedule, line)?)))
}

impl KernelCase for Debug {
    fn schedule(&self) -> Option<&str> {
        self.schedule.as_deref()
    }

    fn mutations(&self) -> &[String] {
        &self.kernel.mutate
    }

    fn case_limit(&self) -> u64 {
        self.case_limit
    }

    fn boot(&self, plan: &Plan, opened: Opened) -> Result<Booted, Failure> {
        self.kernel.boot(plan, opened, &never())
    }

    fn line(&self, schedule: &str) -> String {
        self.kernel.replay(FaultBy::Spurious, Gear::Step, self.case_limit, schedule)
    }
}

/// Carries out the command for a case on a real kernel.
pub fn kernel(args: &Debug, case: &dyn KernelCase, opened: Opened) -> Result<Ending, Failure> {
    let (mut booted, schedule) = ready(case, opened)?;
    let events = booted.lab.schedule(schedule)?.0;
    serve(&args.listen, || Ok(Box::new(KernelRun::new(&mut booted.lab, events, |text| case.line(text))?)))
}

/// Records a run, once its address is known to be free, and shows it to gdb.
fn serve<'a>(at: &Address, run: impl FnOnce() -> Result<Box<dyn Run + 'a>, Failure>) -> Result<Ending, Failure> {
    let listener = Listener::new(at)?;
    let run = run()?;
    say(format_args!("{} moves; the run comes to: {}", run.log().end(), plain(&run.verdict().to_string())));
    if let Some(missed) = run.missed() {
        say(missed);
    }
    say(format_args!("waiting for gdb: gdb -ex 'target remote {}'", listener.address()));
    listener.serve(run, |text| plain(text).into_owned())?;
    Ok(Ending::Expected)
}
