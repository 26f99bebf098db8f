//! `vmm debug`: one run in gdb.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::args::GuestArgs;
use super::boot::Plan;
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
    line: Vec<String>,
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S", requires = "scenario", conflicts_with_all = ["kernel", "from"])]
    scheme: Option<String>,
    /// The scenario (see `vmm list scenarios`)
    #[arg(long, value_name = "C", requires = "scheme")]
    scenario: Option<String>,
    /// Insist on a mode; each scheme has one
    #[arg(long, value_name = "MODE", value_parser = values::mode())]
    mode: Option<Mode>,
    /// What arrives where, as in 'nmi@exit_iret#1 nmi@body+0x4#2' [default: nothing]
    #[arg(long, value_name = "SCHEDULE", default_value = "", hide_default_value = true)]
    schedule: String,
    /// Whether an IRET that faults unblocks NMIs all the same [default: unblocks]
    #[arg(long, value_name = "WHAT", value_parser = values::faulting_iret())]
    faulting_iret: Option<bool>,
    /// Play a bug that a hypervisor's NMI logic had
    #[arg(long, value_name = "NAME", value_parser = values::hv_bug())]
    hv_bug: Option<HvBug>,
    /// Where gdb connects to: PORT or HOST:PORT (0: any free port), or unix:PATH
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:1234")]
    listen: Address,
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
    /// Whether it is about a real kernel.
    pub fn is_kernel(&self) -> bool {
        self.kernel.kernel.is_some() || self.kernel.from.is_some()
    }

    /// The folder of the socket that it makes, where it makes one.
    pub fn socket(&self) -> Option<PathBuf> {
        match &self.listen {
            Address::Socket(path) => {
                Some(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into())
            }
            Address::Port(_) => None,
        }
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
                schedule: args.schedule.clone(),
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

/// Carries out the command for a real kernel.
pub fn kernel(args: &Debug, opened: Opened) -> Result<Ending, Failure> {
    let plan =
        Plan { schedule: Some(args.schedule.clone()), mutations: vec![args.kernel.mutate.clone()], ..Plan::default() };
    let mut booted = args.kernel.boot(&plan, opened, &AtomicBool::new(false))?;
    booted.lab.set_limit(Duration::from_millis(args.case_limit));
    let events = booted.lab.schedule(&args.schedule)?.0;
    let line = |schedule: &str| args.kernel.replay(FaultBy::Spurious, Gear::Step, args.case_limit, schedule);
    serve(&args.listen, || Ok(Box::new(KernelRun::new(&mut booted.lab, events, line)?)))
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
