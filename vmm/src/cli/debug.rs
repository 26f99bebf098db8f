//! `vmm debug`: one run in gdb.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::say;
use super::run::bare;
use super::values;
use crate::debug::{Address, Listener, Recording};
use crate::image::target::Target;
use crate::image::{Guest, Mode, Names};
use crate::inject::{Replay, Schedule, Session};
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;
use crate::report::plain;

/// `vmm debug`.
#[derive(Debug, Args)]
pub struct Debug {
    /// The line, as a failure printed it; or else --scheme, --scenario and --schedule
    #[arg(value_name = "LINE", required_unless_present_all = ["scheme", "scenario"])]
    #[arg(conflicts_with_all = ["scheme", "scenario", "schedule", "mode", "faulting_iret", "hv_bug"])]
    line: Vec<String>,
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S", requires = "scenario")]
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
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
}

impl Debug {
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
    let listener = Listener::new(&args.listen)?;
    let run = Recording::new(session, schedule)?;
    say(format_args!("{} moves; the run comes to: {}", run.end(), run.verdict()));
    if let Some(missed) = run.missed() {
        say(missed);
    }
    say(format_args!("waiting for gdb: gdb -ex 'target remote {}'", listener.address()));
    listener.serve(run, line, |text| plain(text).into_owned())?;
    Ok(Ending::Expected)
}
