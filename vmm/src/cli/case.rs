//! One case on a real kernel: what `vmm debug` and `vmm explain` take.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::boot::{Booted, Plan};
use super::failure::Failure;
use super::opened::Opened;

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

/// A kernel at the start of the case's schedule.
pub fn ready(case: &dyn KernelCase, opened: Opened) -> Result<Booted, Failure> {
    let schedule = case.schedule().map(str::to_owned);
    let plan = Plan { schedule, mutations: vec![case.mutations().to_vec()], ..Plan::default() };
    let mut booted = case.boot(&plan, opened)?;
    booted.lab.set_limit(Duration::from_millis(case.case_limit()));
    Ok(booted)
}

/// Never set: a single case is not waited for.
pub fn never() -> AtomicBool {
    AtomicBool::new(false)
}
