//! What can go wrong, and which exit code it has.

use std::path::PathBuf;

use crate::image::target::TargetError;
use crate::inject::{ReplayError, RunError, ScheduleError};
use crate::{bench, campaign, explore, folder, kernels, kvm, machine};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every verdict is as expected.
    Expected,
    /// Not every verdict is.
    Unexpected,
    /// A defect of ours showed itself in the results.
    Defect,
    /// Interrupted, with results kept.
    Interrupted,
    /// This machine cannot run guests, as was asked.
    Unusable,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line does not fit the image or itself.
    #[error("{0}")]
    Usage(String),
    /// Names on the command line that the image does not have.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A replay line's names.
    #[error("the replay line does not fit this image: {0}")]
    ReplayTarget(TargetError),
    /// The schedule.
    #[error("schedule: {0}")]
    Schedule(#[from] ScheduleError),
    /// The replay line.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The image.
    #[error("image {name}: {why}")]
    Image {
        /// The name, as it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The campaign, or its results.
    #[error(transparent)]
    Campaign(#[from] campaign::Error),
    /// A result folder.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// A file that was to be read.
    #[error("{name}: {why}")]
    Input {
        /// The name, as it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The machine, or an event that is never reached.
    #[error(transparent)]
    Run(#[from] RunError),
    /// This KVM does not do what every verdict stands on.
    #[error(
        "this KVM does not deliver an NMI at the boundary where it is raised ({0}), so nothing that ran here would be \
         true; `vmm probe` has the details, and scripts/hosts/svm runs the same command line on an emulated machine"
    )]
    Inexact(String),
    /// A run that gdb looks at.
    #[error(transparent)]
    Debug(crate::debug::Error),
    /// A Linux kernel, or what was asked of it.
    #[error(transparent)]
    Linux(#[from] crate::kernels::LabError),
    /// The host had nothing left to open a file or to start a thread or a process with.
    #[error("{name}: {why}")]
    Scarce {
        /// The file.
        name: String,
        /// What the host says.
        why: std::io::Error,
    },
    /// The process could not be confined.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// Output could not be written.
    #[error("cannot write {what}: {why}")]
    Write {
        /// What was written to.
        what: String,
        /// What was said instead.
        why: std::io::Error,
    },
}

impl Failure {
    /// A file that could not be written.
    pub fn writing(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = PathBuf::from(path).display().to_string();
        |why| Failure::Write { what, why }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Target(_) => 2,
            Failure::ReplayTarget(_)
            | Failure::Schedule(_)
            | Failure::Replay(_)
            | Failure::Image { .. }
            | Failure::Input { .. } => 65,
            Failure::Inexact(_) | Failure::Sandbox(_) | Failure::Scarce { .. } => 69,
            Failure::Run(RunError::NeverReached { .. }) => 65,
            Failure::Run(RunError::Machine(e)) => machine_code(e),
            Failure::Campaign(e) => campaign_code(e),
            Failure::Folder(e) => folder_code(e),
            Failure::Linux(e) => e.exit_code(),
            Failure::Debug(e) => debug_code(e),
            Failure::Write { .. } => 74,
        }
    }
}

/// Whether the host had nothing left to open a file with: the file may be good.
pub fn is_scarcity(why: &std::io::Error) -> bool {
    why.raw_os_error().is_some_and(|e| [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&e))
}

impl Ending {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Ending::Expected => 0,
            Ending::Unexpected => 1,
            Ending::Defect => 70,
            Ending::Interrupted => 75,
            Ending::Unusable => 69,
        }
    }
}

fn debug_code(e: &crate::debug::Error) -> u8 {
    match e {
        crate::debug::Error::Machine(e) => machine_code(e),
        crate::debug::Error::Lab(_) | crate::debug::Error::NotHere(_) | crate::debug::Error::Diverged { .. } => 65,
        crate::debug::Error::Spent => 70,
        crate::debug::Error::Listen { .. } | crate::debug::Error::Connection(_) => 74,
    }
}

fn machine_code(e: &machine::Error) -> u8 {
    match e {
        machine::Error::Kvm(_) | machine::Error::Host(_) | machine::Error::Limit(_) => 69,
        machine::Error::Boot(_)
        | machine::Error::NotReady(_)
        | machine::Error::Contract(_)
        | machine::Error::Golden(_) => 65,
        machine::Error::Interrupted => 75,
    }
}

fn campaign_code(e: &campaign::Error) -> u8 {
    match e {
        campaign::Error::Machine { why, .. } => machine_code(why),
        campaign::Error::Folder(e) => folder_code(e),
        _ => 65,
    }
}

fn folder_code(e: &folder::Error) -> u8 {
    match e {
        folder::Error::Thread { .. } => 69,
        folder::Error::Read { why, .. } | folder::Error::Write { why, .. } if is_scarcity(why) => 69,
        folder::Error::Write { .. } => 74,
        folder::Error::Read { .. } | folder::Error::Results { .. } => 65,
    }
}

impl From<kernels::SweepError> for Failure {
    fn from(e: kernels::SweepError) -> Self {
        match e {
            kernels::SweepError::Folder(e) => e.into(),
            kernels::SweepError::Lab(e) => e.into(),
        }
    }
}

impl From<bench::Error> for Failure {
    fn from(e: bench::Error) -> Self {
        match e {
            bench::Error::Run(e) => e.into(),
            bench::Error::Explore(e) => e.into(),
        }
    }
}

impl From<explore::Error> for Failure {
    fn from(e: explore::Error) -> Self {
        match e {
            explore::Error::Machine(e) => e.into(),
            explore::Error::Path(e) => e.into(),
        }
    }
}

impl From<crate::debug::Error> for Failure {
    fn from(e: crate::debug::Error) -> Self {
        match e {
            crate::debug::Error::Machine(e) => e.into(),
            crate::debug::Error::Lab(e) => e.into(),
            e => Failure::Debug(e),
        }
    }
}

impl From<machine::Error> for Failure {
    fn from(e: machine::Error) -> Self {
        Failure::Run(RunError::Machine(e))
    }
}

impl From<kvm::Error> for Failure {
    fn from(e: kvm::Error) -> Self {
        machine::Error::from(e).into()
    }
}
