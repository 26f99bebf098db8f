//! The rules, one file each, and what a scheme and a scenario are held to.
//!
//! A rule is a few methods of the oracle that are asked at one event each, by `watch.rs`. A
//! new one is a file here, its name in `invariant.rs`, and the place in `watch.rs` where it is
//! asked.

mod atomic;
mod block;
mod bound;
mod context;
mod cr3;
mod environment;
mod faults;
mod gs;
mod latch;
pub(super) mod memory;
mod privilege;
pub(super) mod progress;
mod provenance;
mod reentry;
mod rest;
mod service;
mod stack;
mod traps;
mod view;

use std::ops::Range;
use std::sync::Arc;

use super::context::Context;
use super::golden::Golden;
use super::tables::Tables;
use super::watched::Watched;
use crate::image::Guest;
use crate::image::Names;
use crate::image::declare::{Scenario, Scheme};
use crate::machine::Machine;

/// What a scheme and a scenario are held to; fixed for all their runs.
#[derive(Debug)]
pub struct Rules {
    /// The image.
    pub guest: Arc<Guest>,
    /// The scheme, as declared.
    pub scheme: Scheme,
    /// The scenario, as declared.
    pub scenario: Scenario,
    /// What a faulting IRET does to B in the model.
    pub faulting_iret_unblocks: bool,
    /// The memory that must not change.
    pub watched: Watched,
    /// Words with their values at *ready*.
    pub(in crate::oracle) idle: Vec<(u64, u8)>,
    /// The GS base at *ready*.
    gs_base: u64,
    /// Which page tables are whose.
    pub(in crate::oracle) tables: Tables,
    /// The run without NMIs; empty while it is being made.
    pub golden: Golden,
}

impl Rules {
    /// For a machine at *ready*; `golden` is empty where it is still to be made.
    pub fn new(machine: &Machine, scheme: &Scheme, scenario: &Scenario, golden: Golden) -> Self {
        let guest = Arc::clone(machine.guest());
        let scratch: Vec<Range<u64>> = guest
            .image
            .declared
            .scratch
            .iter()
            .filter(|s| s.scheme.as_ref().is_none_or(|name| *name == scheme.name))
            .map(|s| s.range.clone())
            .collect();
        let cr3 = machine.state().sregs.cr3;
        let byte = |at: u64| {
            let mut b = [0];
            machine.memory().read(cr3, at, &mut b).then_some((at, b[0]))
        };
        Self {
            watched: Watched::new(machine, &scratch),
            idle: scheme.idle.iter().cloned().flatten().filter_map(byte).collect(),
            gs_base: machine.state().sregs.gs.base,
            faulting_iret_unblocks: machine.knobs().faulting_iret_unblocks,
            tables: Tables::new(&guest.image, machine, &golden),
            golden,
            scheme: scheme.clone(),
            scenario: scenario.clone(),
            guest,
        }
    }

    /// A declared idle byte that could not be read at *ready*, and so could not be compared.
    pub fn unread_idle(&self) -> Option<u64> {
        let mut declared = self.scheme.idle.iter().cloned().flatten();
        declared.find(|at| self.idle.iter().all(|(known, _)| known != at))
    }

    /// The GS base at *ready*: the kernel's.
    pub fn gs_base(&self) -> u64 {
        self.gs_base
    }

    /// Names of addresses, as this scheme's users write them.
    pub fn names(&self) -> Names<'_> {
        Names::new(&self.guest, &self.scheme.prefix)
    }

    /// The declared stack that `rsp` points into. An empty stack's RSP is its top.
    pub(in crate::oracle) fn stack_of(&self, rsp: u64) -> Option<&Range<u64>> {
        self.guest.image.declared.stacks.iter().map(|s| &s.range).find(|r| r.start < rsp && rsp <= r.end)
    }

    /// Whether the scheme declares that what was interrupted at `was` may go on at `is`: by
    /// `resumes=`, or by a place of `repeat=` that lies in the interrupted code. That is the
    /// beginning of a sequence which the handler begins again from wherever it was interrupted
    /// later on; whether it may is seen by the scenario's result.
    pub(in crate::oracle) fn may_resume(&self, was: u64, is: u64) -> bool {
        let begins_again = || is < was && self.scheme.repeat.contains(&is) && self.interruptible(is);
        self.scheme.resumes.iter().any(|r| r.allows(was, is)) || begins_again()
    }

    /// Whether `at` is an instruction of the code that NMIs interrupt: the golden run stands
    /// there. What an entry path executes is not.
    pub(in crate::oracle) fn interruptible(&self, at: u64) -> bool {
        self.golden.visits.iter().any(|v| v.addr == at)
    }

    /// The bytes below `rsp` on its stack that nobody may rely on.
    pub(in crate::oracle) fn dead(&self, rsp: u64) -> Range<u64> {
        let keep = if self.scenario.redzone { 128 } else { 0 };
        match self.stack_of(rsp) {
            Some(stack) => stack.start..(rsp - keep).max(stack.start),
            None => rsp..rsp,
        }
    }

    /// The parts of stacks that are empty besides, while user code runs, and at a scenario's end.
    pub(in crate::oracle) fn dead_in_user(&self) -> impl Iterator<Item = Range<u64>> {
        self.guest.image.declared.stacks.iter().map(|stack| stack.in_user.clone())
    }

    /// The same for an interrupted context. While user code runs, the stack that it
    /// would enter the kernel on is empty; of its own memory nothing is dead.
    pub fn dead_under(&self, machine: &Machine, context: &Context) -> Range<u64> {
        match context.cpl() {
            3 => {
                let top = machine.entry_sp();
                self.stack_of(top).map_or(top..top, |stack| stack.start..top)
            }
            _ => self.dead(context.rsp()),
        }
    }
}
