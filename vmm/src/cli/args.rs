//! Options that several commands have: the image, the guest, and what of it is run.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::host::cpus;
use super::values;
use crate::folder::{self, Options, Shard};
use crate::image::Mode;
use crate::machine::hv_bug::HvBug;
use crate::machine::{Knobs, Transport};

/// The image to test; options of the commands that read one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guest")]
pub struct ImageArgs {
    /// Test this ELF image instead of the built-in micro-kernel (docs/guide/guest-abi.md)
    #[arg(long, value_name = "FILE")]
    pub guest: Option<PathBuf>,
    /// Link this object's `nmi_entry` into the image and test it (docs/guide/guest-abi.md)
    #[arg(long, value_name = "FILE.o")]
    pub entry: Option<PathBuf>,
    /// Change an instruction of the image before: `removed@PLACE`, `inverted@PLACE` and so on, as
    /// `vmm necessity` prints them; may be repeated
    #[arg(long, value_name = "WHAT@PLACE")]
    pub change: Vec<String>,
}

/// The image, and how it is run; options of the commands that run one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guest")]
pub struct GuestArgs {
    /// The image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// What carries hypercalls in mode pv [default: xen where `vmm probe` says so, else port]
    #[arg(long, value_name = "HOW", value_parser = values::transport())]
    pub transport: Option<Transport>,
}

/// What to run.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S")]
    pub scheme: String,
    /// The scenario (see `vmm list scenarios`)
    #[arg(long, value_name = "C")]
    pub scenario: String,
    /// Insist on a mode; each scheme has one
    #[arg(long, value_name = "MODE", value_parser = values::mode())]
    pub mode: Option<Mode>,
    /// Whether an IRET that faults unblocks NMIs all the same
    #[arg(long, value_name = "WHAT", default_value = "unblocks", value_parser = values::faulting_iret())]
    #[arg(action = clap::ArgAction::Set)] // a bool would be a switch
    pub faulting_iret: bool,
    /// Play a bug that a hypervisor's NMI logic had
    #[arg(long, value_name = "NAME", alias = "fault", value_parser = values::hv_bug())]
    pub hv_bug: Option<HvBug>,
}

impl TargetArgs {
    /// The knobs that the arguments set.
    pub fn knobs(&self, guest: &GuestArgs) -> Knobs {
        Knobs { faulting_iret_unblocks: self.faulting_iret, hv_bug: self.hv_bug, transport: guest.transport }
    }
}

/// How work that is divided into units is run, and kept.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// Threads, each with machines of its own [default: one per CPU]
    #[arg(long, short, value_name = "N", value_parser = values::jobs())]
    pub jobs: Option<u16>,
    /// Keep results in this folder, and resume from what is there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Throw away what --out holds of something else: another campaign, image or host
    #[arg(long, requires = "out")]
    pub fresh: bool,
    /// Run only every N-th unit, beginning with number I (from 0)
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

impl UnitArgs {
    /// The same, until `stop` is set.
    pub fn options<'a>(&'a self, stop: &'a AtomicBool) -> Options<'a> {
        Options {
            jobs: self.jobs.map_or_else(cpus, usize::from),
            shard: self.shard.unwrap_or(Shard::WHOLE),
            out: self.out.as_deref(),
            fresh: self.fresh,
            disk: &folder::Real,
            stop,
        }
    }

    /// The option that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        let all = [(self.jobs.is_some(), "--jobs"), (self.out.is_some(), "--out"), (self.shard.is_some(), "--shard")];
        all.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// What is said after an interrupt.
    pub fn interrupted(&self) -> String {
        let kept = match &self.out {
            Some(dir) => format!("the same command line goes on from {}", dir.display()),
            None => "with --out DIR they would be kept for the next run".to_owned(),
        };
        format!("interrupted; these are the results so far ({kept})")
    }
}
