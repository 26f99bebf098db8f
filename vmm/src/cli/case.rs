//! One case on a real kernel: what `vmm debug` and `vmm explain` take.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::boot::{Booted, Plan, look_in};
use super::failure::Failure;
use super::inject::Inject;
use super::opened::Opened;
use crate::inject::Gear;

/// A command that can carry out one schedule on a kernel.
pub trait KernelCase {
    /// The schedule, where the command line has one.
    fn schedule(&self) -> Option<&str>;
    /// What is changed of the kernel's code.
    fn mutations(&self) -> &[String];
    /// CPU time that the case may take, in milliseconds.
    fn case_limit(&self) -> u64;
    /// Has the kernel come up, and goes to where the schedule starts.
    fn boot(&self, plan: &Plan, opened: Opened) -> Result<Booted, Failure>;
    /// The command line that carries out another schedule, stepped.
    fn line(&self, schedule: &str) -> String;
}

/// A command that does with its kernel what an [`Inject`] says.
pub trait Injects {
    /// What it is to do.
    fn what(&self) -> &Inject;
    /// The words that run the same kernel again.
    fn command(&self) -> String;
    /// Has the kernel come up, and goes to where `plan` says, until `stop` is set.
    fn up(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure>;
}

impl<T: Injects> KernelCase for T {
    fn schedule(&self) -> Option<&str> {
        self.what().schedule.as_deref()
    }

    fn mutations(&self) -> &[String] {
        &self.what().mutate
    }

    fn case_limit(&self) -> u64 {
        self.what().case_limit
    }

    fn boot(&self, plan: &Plan, opened: Opened) -> Result<Booted, Failure> {
        look_in();
        self.up(plan, opened, &never())
    }

    fn line(&self, schedule: &str) -> String {
        self.what().line(&self.command(), Gear::Step, schedule)
    }
}

/// A kernel at the start of the case's schedule, and that schedule; a command without one is no case.
pub fn ready(case: &dyn KernelCase, opened: Opened) -> Result<(Booted, &str), Failure> {
    let Some(schedule) = case.schedule() else { return Err(Failure::Usage(NO_SCHEDULE.into())) };
    let mutations = vec![case.mutations().to_vec()];
    let plan = Plan { schedule: Some(schedule.to_owned()), mutations, ..Plan::default() };
    let mut booted = case.boot(&plan, opened)?;
    booted.lab.set_limit(Duration::from_millis(case.case_limit()));
    Ok((booted, schedule))
}

/// What is said of a command that carries out no schedule.
pub const NO_SCHEDULE: &str = "it has no --schedule, so that there is no case to look at";

/// Never set: a single case is not waited for.
pub fn never() -> AtomicBool {
    AtomicBool::new(false)
}
