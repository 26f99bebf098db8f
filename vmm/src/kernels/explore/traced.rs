//! The model of the CPU beside KVM: it follows where values come from, and must come to what KVM
//! comes to, instruction by instruction.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use super::machine::Search;
use super::paths::Edge;
use super::state::{Ghost, State};
use crate::cpu::{Access, Cpu, Debug, End, Model, Msrs, Provenance, Register, Traced, complete_in, msr};
use crate::kernels::error::LabError;
use crate::kernels::fault_by::Fault;
use crate::kernels::pc::{Answer, Next, Pc, Snapshot};
use crate::kvm::VcpuState;
use crate::oracle::Context;

/// Follows values, and remembers what of the NMI stack was read before it was written.
pub struct Tracer {
    model: Model,
    log: Vec<Access>,
    /// Bytes that the model has written on the edge under way.
    written: HashSet<u64>,
    /// Words of the NMI stack that an episode reads before it writes them.
    pub live: BTreeSet<u64>,
}

/// One edge that is followed.
pub struct Following<'a> {
    /// RIP and RSP of the context that the episode interrupts.
    pub context: (u64, u64),
    pub trace: &'a mut Traced,
    tracer: &'a mut Tracer,
    /// What registers and events do not hold, as the model has it.
    deep: (u64, Debug, Msrs),
    expected: Expected,
}

/// What the model says of what happens at a boundary.
enum Expected {
    /// Nothing is executed, or the VMM does it.
    Nothing,
    /// The model's state.
    State(Box<Cpu>, End),
}

impl Tracer {
    pub fn new(pc: &Pc) -> Self {
        Self { model: pc.model(), log: Vec::new(), written: HashSet::new(), live: BTreeSet::new() }
    }

    /// Follows values along an edge of the episode that interrupts `context`, its RIP and RSP.
    pub fn follow<'a>(&'a mut self, context: (u64, u64), trace: &'a mut Traced) -> Following<'a> {
        let deep = (0, Debug::default(), Msrs::default());
        Following { context, trace, tracer: self, deep, expected: Expected::Nothing }
    }
}

impl Following<'_> {
    /// An edge from `state` begins.
    pub fn begin(&mut self, state: &State) {
        self.tracer.written.clear();
        let cpu = state.cpu();
        self.deep = (cpu.kernel_gs, cpu.debug, cpu.msrs);
    }

    /// Predicts what happens at the boundary where the machine stands. An error value says why
    /// it cannot be followed.
    pub fn before(
        &mut self,
        search: &mut Search<'_>,
        edge: Edge,
        ghost: Ghost,
    ) -> Result<Result<(), String>, LabError> {
        let lab = &mut *search.run.lab;
        let next = match edge {
            Edge::Start | Edge::Through(_) | Edge::Latch | Edge::Unmask => {
                self.expected = Expected::Nothing;
                return Ok(Ok(()));
            }
            Edge::Nmi => Next::Nmi,
            Edge::Fault => match lab.kernel.fault(&lab.pc, &lab.path, lab.fault_by)? {
                Some(Fault::Page(fault)) => Next::PageFault(fault),
                _ => return Ok(Err("values are followed through no other fault than a page fault".into())),
            },
            Edge::On if ghost.latched && lab.pc.state().events.nmi.masked == 0 => Next::Nmi,
            Edge::On => match lab.pc.answer_here() {
                Some(answer) => {
                    self.answered(&lab.pc, answer);
                    self.expected = Expected::Nothing;
                    return Ok(Ok(()));
                }
                None => Next::Instruction,
            },
        };
        self.tracer.log.clear();
        let (kernel_gs, debug, msrs) = self.deep;
        let state = lab.pc.state();
        let cpu =
            Cpu { regs: state.regs, sregs: state.sregs, events: state.events, kernel_gs, debug, msrs, undefined: 0 };
        let at = cpu.regs.rip;
        let predicted = lab.pc.predict(&mut self.tracer.model, cpu, next, &mut self.tracer.log, &mut *self.trace);
        let (cpu, end) = match predicted {
            Ok(predicted) => predicted,
            Err(why) => return Ok(Err(format!("{why}, at {}", lab.pc.symbols.show(at)))),
        };
        for a in self.tracer.log.iter().filter(|a| !a.write && search.stack.has(a.paddr)) {
            for paddr in a.paddr..a.paddr + u64::from(a.size) {
                let rewritten = || {
                    self.tracer.log.iter().any(|w| w.write && (w.paddr..w.paddr + u64::from(w.size)).contains(&paddr))
                };
                if self.trace.is_input(paddr) || rewritten() {
                    self.tracer.live.insert(paddr & !7);
                }
            }
        }
        self.expected = Expected::State(Box::new(cpu), end);
        Ok(Ok(()))
    }

    /// The VMM leaves a function, or answers for the clock.
    fn answered(&mut self, pc: &Pc, answer: Answer) {
        let known = |trace: &mut Traced, n| trace.set_register(Register::Gpr(n), Traced::KNOWN);
        match answer {
            Answer::Clock { aux } => {
                known(self.trace, 0);
                known(self.trace, 2);
                if aux {
                    known(self.trace, 1);
                }
            }
            Answer::Return { .. } => {
                let rsp = self.trace.register(Register::Gpr(4));
                self.trace.look(&rsp, u64::MAX);
                known(self.trace, 4);
                if let Some(paddr) = pc.physical(pc.state().regs.rsp) {
                    self.trace.look_memory(paddr, 8);
                }
                if answer == (Answer::Return { sets_rax: true }) {
                    known(self.trace, 0);
                }
            }
        }
    }

    /// Holds what KVM came to to what was predicted. An error value says what differs.
    pub fn after(&mut self, pc: &Pc) -> Result<(), String> {
        let (mut cpu, end) = match std::mem::replace(&mut self.expected, Expected::Nothing) {
            Expected::Nothing => return Ok(()),
            Expected::State(cpu, end) => (cpu, end),
        };
        let now = pc.state();
        match end {
            End::In { size, .. } => complete_in(&mut cpu, &mut *self.trace, size, now.regs.rax as u32),
            End::Next | End::Out { .. } | End::Delivered(_) => {}
            End::Halt | End::Shutdown | End::NotUnderstood(_) => return Err(format!("the model says {end:?}")),
        }
        // The host decides what a flag is that the architecture leaves undefined.
        cpu.regs.rflags = cpu.regs.rflags & !cpu.undefined | now.regs.rflags & cpu.undefined;
        let predicted = VcpuState { regs: cpu.regs, sregs: cpu.sregs, events: cpu.events, ..*now };
        if let Some(d) = Context::of(&predicted).difference(&Context::of(now)) {
            return Err(format!("{} is {:#x} by the model, and {:#x} on KVM", d.register, d.was, d.is));
        }
        if cpu.events.nmi.masked != now.events.nmi.masked {
            return Err("NMIs are blocked by the model or on KVM, and not by both".into());
        }
        for (i, a) in self.tracer.log.iter().enumerate().filter(|(_, a)| a.write) {
            for n in 0..usize::from(a.size) {
                let paddr = a.paddr + n as u64;
                let later = |b: &&Access| b.write && (b.paddr..b.paddr + u64::from(b.size)).contains(&paddr);
                let is = pc.ram().get(paddr as usize).copied();
                if self.tracer.log[i + 1..].iter().find(later).is_none() && is != Some(a.value.to_le_bytes()[n]) {
                    return Err(format!("physical {paddr:#x} is not the same by the model and on KVM"));
                }
                self.tracer.written.insert(paddr);
            }
        }
        self.deep = (cpu.kernel_gs, cpu.debug, cpu.msrs);
        Ok(())
    }

    /// The edge has led from one state to another: nothing else than what was predicted may differ.
    pub fn end(&mut self, from: &State, to: &State, snapshot: &Snapshot) -> Result<(), String> {
        self.trace.settle();
        for (at, _) in from.pages.iter().chain(&to.pages) {
            let page = |state: &State| state.page(*at).map(Rc::as_ptr);
            if page(from) == page(to) {
                continue;
            }
            let [was, is] = [from, to].map(|state| state.page(*at).map_or(snapshot.page(*at), |page| &page.bytes[..]));
            let changed = was.iter().zip(is).zip(*at..).filter(|((was, is), _)| was != is).map(|(_, paddr)| paddr);
            if let Some(paddr) = changed.into_iter().find(|paddr| !self.tracer.written.contains(paddr)) {
                return Err(format!("physical {paddr:#x} changes on KVM, and not by the model"));
            }
        }
        let values = &to.deep.values;
        let of = |number: u32| values.msrs.iter().rfind(|(index, _)| *index == number).map(|(_, value)| *value);
        let (kernel_gs, debug, msrs) = self.deep;
        let numbers = Msrs::NUMBERS.into_iter().zip(msrs.values).chain([(msr::KERNEL_GS_BASE, kernel_gs)]);
        if let Some((number, _)) =
            numbers.into_iter().find(|(number, value)| of(*number).is_some_and(|is| is != *value))
        {
            return Err(format!("MSR {number:#x} is not the same by the model and on KVM"));
        }
        let [a, b, c, d, dr6, dr7] = values.debug;
        match debug == (Debug { addresses: [a, b, c, d], dr6, dr7 }) {
            true => Ok(()),
            false => Err("a debug register is not the same by the model and on KVM".into()),
        }
    }
}
