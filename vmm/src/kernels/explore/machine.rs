//! The machine that is searched, and what can happen where it stands.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use iced_x86::InstructionInfoFactory;

use super::counters::{Counters, changes_deep};
use super::nmi_stack::{Dead, NmiStack};
use super::paths::Edge;
use super::report::Config;
use super::state::{Ghost, State};
use super::store::Store;
use crate::cpu::{Place, inputs};
use crate::image::Decoded;
use crate::inject::At;
use crate::kernels::case::Run;
use crate::kernels::error::LabError;
use crate::kernels::lab::Lab;

/// A search under way: the machine, and what it is asked.
pub struct Search<'a> {
    pub run: Run<'a>,
    pub store: Store,
    pub counters: Counters,
    pub stack: NmiStack,
    /// Where the handler may fault.
    pub fault: Option<At>,
    /// Where something else may unblock NMIs.
    pub unmask: Option<HashSet<u64>>,
    pub all_arrivals: bool,
    /// Every boundary is a state.
    pub stepped: bool,
    pub code: HashMap<u64, Option<Rc<Code>>>,
    pub factory: InstructionInfoFactory,
    /// Words of the NMI stack that an NMI reads which is not followed, but for what its delivery wrote.
    pub live: BTreeSet<u64>,
    /// How often each boundary was come to, while a schedule is made.
    pub visits: Option<HashMap<u64, u32>>,
}

/// An instruction, and what was found out about it.
pub struct Code {
    pub decoded: Decoded,
    /// Whether it may change what the vCPU holds beyond registers and events.
    pub deep: bool,
    /// Whether it accesses a port.
    pub device: bool,
}

/// Most that can happen in a state.
type Edges = [Option<Edge>; 5];

impl Search<'_> {
    /// What can happen in a state with this ghost, in which the machine is.
    pub fn edges(&self, ghost: Ghost, home: bool) -> Edges {
        let blocked = self.run.blocked();
        let if_so = |edge, holds: bool| holds.then_some(edge);
        if ghost.latched && (!blocked || self.run.to_user()) {
            return [Some(Edge::On), None, None, None, None];
        }
        if home {
            // The interrupted code itself is not gone on with.
            return [Some(Edge::Nmi), None, None, None, None];
        }
        let at = self.run.lab.pc.rip();
        [
            Some(Edge::On),
            if_so(Edge::Nmi, !ghost.latched && !blocked),
            if_so(Edge::Latch, !ghost.latched && blocked && self.all_arrivals),
            if_so(Edge::Unmask, blocked && self.unmask.as_ref().is_some_and(|may| may.contains(&at))),
            if_so(Edge::Fault, self.fault.is_some_and(|fault| fault.addr == at) && !ghost.faulted),
        ]
    }

    /// Whether the interrupted code goes on here.
    pub fn is_home(&self, ghost: Ghost) -> bool {
        !ghost.latched && (self.run.is_home() || self.run.to_user())
    }

    /// Puts the machine back to where the search began.
    pub fn go_home(&mut self) -> Result<(), LabError> {
        let lab = &mut *self.run.lab;
        self.store.go_home(&mut lab.pc, &mut lab.snapshot)
    }

    /// Puts the machine into a state.
    pub fn load(&mut self, state: &State) -> Result<(), LabError> {
        let lab = &mut *self.run.lab;
        self.store.load(&mut lab.pc, &lab.snapshot, state)?;
        self.run.latched = state.ghost.latched;
        self.run.away.clone_from(&state.faults.away);
        self.run.restart_clock()
    }

    /// The instruction that comes next. Code does not change while NMIs are handled, or else
    /// that is a change of memory.
    pub fn code(&mut self) -> Option<Rc<Code>> {
        let rip = self.run.lab.pc.rip();
        let pc = &self.run.lab.pc;
        let found = self.code.entry(rip).or_insert_with(|| {
            let decoded = pc.next_instruction()?;
            use iced_x86::Mnemonic::{In, Insb, Insd, Insw, Out, Outsb, Outsd, Outsw};
            let device = matches!(decoded.insn.mnemonic(), In | Insb | Insd | Insw | Out | Outsb | Outsd | Outsw);
            Some(Rc::new(Code { decoded, deep: changes_deep(&decoded), device }))
        });
        found.clone()
    }

    /// Whether a state is one that an episode interrupts: a handler's that is not on the NMI stack.
    pub fn is_context(&self, state: &State, home: bool) -> bool {
        !home && !state.ghost.latched && state.ghost.dead == Dead::Stack && self.stack.is_left(state.vcpu.regs.rsp)
    }

    /// The inputs of a run from `state`, in which the machine is.
    pub fn looks_at<T>(&self, state: &State, with: impl FnOnce(&dyn Fn(Place) -> u8) -> T) -> T {
        let cpu = state.cpu();
        let inputs = inputs(&cpu, self.run.lab.pc.ram());
        with(&inputs)
    }
}

/// A search of the lab from its site. `live`, where it is known, are the words of the NMI stack that
/// an NMI reads before it writes them.
pub fn begin<'a>(
    lab: &'a mut Lab,
    config: &Config,
    asked: &Asked,
    live: Option<&BTreeSet<u64>>,
) -> Result<Search<'a>, LabError> {
    let run = Run::new(lab, &[], crate::inject::Gear::Jump)?;
    let stack = if config.dead_words { NmiStack::none() } else { NmiStack::of(&run.lab.pc, &asked.path, live)? };
    let store = Store::new(&run.lab.pc, asked.counters.clone(), stack.clone())?;
    Ok(Search {
        run,
        store,
        counters: asked.counters.clone(),
        stack,
        fault: asked.fault,
        unmask: asked.unmask.clone(),
        all_arrivals: config.all_arrivals,
        stepped: config.stepped,
        code: HashMap::new(),
        factory: InstructionInfoFactory::new(),
        live: BTreeSet::new(),
        visits: None,
    })
}

/// What is searched, once it is known where it lies in this kernel.
pub struct Asked {
    /// One NMI's path.
    pub path: crate::kernels::path::Path,
    /// Words that only count.
    pub counters: Counters,
    /// Where the handler may fault.
    pub fault: Option<At>,
    /// Where something else may unblock NMIs.
    pub unmask: Option<HashSet<u64>>,
}
