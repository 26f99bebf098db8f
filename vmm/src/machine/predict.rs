//! The machine carried by the model of the CPU in place of KVM: the same state, the same
//! stops, and an account of every access to memory.
//!
//! An instruction that the model does not understand is executed by KVM, and counts as
//! reading everything.

use guest::abi;

use super::error::Error;
use super::lab::Machine;
use super::paging::{is_user, translate};
use super::predictor::{Accesses, Engine, Unknown};
use super::pv::{Outcome, Refusal};
use super::stop::Stop;
use crate::cpu::{self, Access, Cpu, Delivered, End, Kind, LazyId, NotUnderstood, Ram, Untraced};
use crate::image::Mode;

/// Instructions after which a run by the model has not ended, and is looked at closely.
const LONGEST_RUN: u64 = 50_000;
/// Accesses of one instruction, at most: those of an IRET that faults, with all page walks.
const MOST_ACCESSES: usize = 64;
/// Bytes of `out %al, $PORT`, the instruction by which a guest asks.
const OUT_BYTES: u64 = 2;

impl Machine {
    /// Has instructions executed by `engine` from now on.
    pub fn set_engine(&mut self, engine: Engine) {
        self.predictor.engine = engine;
    }

    /// Who executes instructions.
    pub fn engine(&self) -> Engine {
        self.predictor.engine
    }

    /// What was accessed since this was last cleared. Complete only while the model executes.
    pub fn accesses(&self) -> &Accesses {
        &self.predictor.accesses
    }

    /// Forgets what was accessed.
    pub fn clear_accesses(&mut self) {
        self.predictor.accesses.clear();
    }

    /// The guest's memory of these many bytes at virtual address `at` is read from outside.
    pub fn note_read(&mut self, at: u64, bytes: u64) {
        let cr3 = self.state().sregs.cr3;
        for word in (at & !7..at + bytes).step_by(8) {
            let Some(paddr) = translate(self.memory().0, cr3, word) else {
                self.predictor.accesses.all = true;
                return;
            };
            let access = Access { kind: Kind::Data, write: false, size: 8, paddr, before: 0, value: 0 };
            self.predictor.accesses.list.push(access);
        }
    }

    /// The VMM has written a PV frame at RSP: an NMI's, or a SYSCALL's.
    pub(super) fn note_frame(&mut self) {
        if self.engine() != Engine::Model {
            return;
        }
        let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        for word in (rsp..rsp + self.pv.frame_bytes()).step_by(8) {
            let Some(paddr) = translate(self.memory().0, cr3, word) else {
                self.predictor.accesses.all = true;
                return;
            };
            let access = Access { kind: Kind::Data, write: true, size: 8, paddr, before: 0, value: 0 };
            self.predictor.accesses.list.push(access);
        }
    }

    /// Instructions that were met and are not understood.
    pub fn unknown(&self) -> &[Unknown] {
        &self.predictor.unknown
    }

    /// The lowest address of a handler that was entered with RFLAGS.AC cleared, where the
    /// architecture keeps it and this host does not.
    pub fn cleared_ac(&self) -> Option<u64> {
        self.predictor.cleared_ac
    }

    /// Instructions that the model executed.
    pub fn predicted_steps(&self) -> u64 {
        self.predictor.steps
    }

    fn cpu(&mut self) -> Cpu {
        let state = *self.vm.state();
        if self.predictor.lazy.0 != state.lazy {
            self.predictor.lazy = (state.lazy, state.lazy.state());
        }
        state.cpu(&self.predictor.lazy.1)
    }

    fn put_cpu(&mut self, cpu: &Cpu) {
        let lazy = &self.predictor.lazy.1;
        let mut debug = cpu.debug;
        if !self.vm.lazy_classes().debug {
            // #DB sets bits of DR6 that no instruction of this guest can read.
            debug.dr6 = lazy.debug.dr6;
        }
        if (debug, cpu.msrs) != (lazy.debug, lazy.msrs) {
            let changed = cpu::Lazy { debug, msrs: cpu.msrs, ..(**lazy).clone() };
            let id = LazyId::of(changed);
            self.predictor.lazy = (id, id.state());
        }
        let state = self.vm.state_mut();
        (state.regs, state.sregs, state.events) = (cpu.regs, cpu.sregs, cpu.events);
        (state.kernel_gs, state.lazy, state.undefined) = (cpu.kernel_gs, self.predictor.lazy.0, cpu.undefined);
    }

    /// One instruction by the model. `None` where it does not understand it: the state is
    /// as before.
    pub(super) fn predict_step(&mut self) -> Result<Option<Stop>, Error> {
        if self.at_user_syscall() {
            let Some(d) = self.next_instruction() else { return Ok(None) };
            self.predictor.trace = None;
            return Ok(Some(self.user_syscall(d.insn.next_ip())));
        }
        let mut cpu = self.cpu();
        let rip = cpu.regs.rip;
        let p = &mut self.predictor;
        let before = p.accesses.list.len();
        let mut ram = Ram::new(self.vm.ram_mut(), &mut p.accesses.list).with_read_only(&p.read_only);
        let end = match &mut p.trace {
            Some(trace) => p.model.step(&mut cpu, &mut ram, &mut **trace),
            None => p.model.step(&mut cpu, &mut ram, &mut Untraced),
        };
        self.predictor.steps += 1;
        if let End::NotUnderstood(why) = end {
            // What it wrote before it gave up is taken back: KVM executes all of it.
            for a in self.predictor.accesses.list.drain(before..).rev().filter(|a| a.write) {
                let (at, size) = (a.paddr as usize, usize::from(a.size));
                self.vm.ram_mut()[at..at + size].copy_from_slice(&a.before.to_le_bytes()[..size]);
            }
            if let NotUnderstood::Memory(paddr) = why
                && paddr < self.vm.ram().len()
            {
                return Err(self.wrote_unseen(paddr));
            }
            if self.predictor.unknown.iter().all(|u| u.at != rip) {
                self.predictor.unknown.push(Unknown { at: rip, why });
            }
            self.predictor.accesses.all = true;
            self.predictor.trace = None;
            return Ok(None);
        }
        self.put_cpu(&cpu);
        self.follow_predicted_idt();
        self.came_to(end).map(Some)
    }

    /// Reads the IDT anew where the last access or instruction may have changed it.
    fn follow_predicted_idt(&mut self) {
        let wrote = self.predictor.accesses.list.iter().rev().take(MOST_ACCESSES).any(|a| {
            a.write
                && self
                    .idt
                    .pages()
                    .iter()
                    .flatten()
                    .any(|page| a.paddr & !4095 == *page || (a.paddr + 7) & !4095 == *page)
        });
        if wrote || !self.idt.is_at(&self.state().sregs.idt) {
            self.follow_idt();
        }
    }

    fn came_to(&mut self, end: End) -> Result<Stop, Error> {
        Ok(match end {
            End::Next => Stop::Boundary,
            End::Delivered(Delivered { vector, cleared_ac, .. }) => {
                if cleared_ac {
                    let known = self.predictor.cleared_ac.unwrap_or(u64::MAX);
                    self.predictor.cleared_ac = Some(known.min(self.rip()));
                }
                if vector == NMI || self.idt.stub_vector(self.rip()) != Some(vector) {
                    Stop::Boundary
                } else {
                    Stop::Undeclared(vector)
                }
            }
            End::Out { port, .. } => match u8::try_from(port) {
                Ok(port @ (abi::PORT_PV | abi::PORT_ERETS | abi::PORT_ERETU)) => self.predict_hypercall(port)?,
                Ok(port) => {
                    if port == abi::PORT_BODY_BEGIN {
                        self.note_read(self.state().regs.rdi, size_of::<abi::Regs>() as u64);
                        self.trace_view();
                    }
                    Stop::Hypercall(port)
                }
                Err(_) => Stop::Failed(format!("an OUT to port {port:#x}, where nothing is")),
            },
            End::In { port, .. } => Stop::Failed(format!("an IN from port {port:#x}, where nothing is")),
            End::Halt if self.woke() => Stop::Boundary,
            End::Halt => {
                let regs = &mut self.vm.state_mut().regs;
                regs.rip = regs.rip.wrapping_sub(1);
                match self.idt.stub_vector(self.rip()) {
                    Some(vector) => Stop::Undeclared(vector),
                    None => Stop::Halt,
                }
            }
            End::Shutdown => Stop::Shutdown,
            End::NotUnderstood(why) => Stop::Failed(why.to_string()),
        })
    }

    /// A PV hypercall. What it reads of memory is noted: a return reads its frame; any other
    /// may read anything.
    fn predict_hypercall(&mut self, port: u8) -> Result<Stop, Error> {
        let (rax, rsp) = (self.state().regs.rax, self.state().regs.rsp);
        match port {
            abi::PORT_PV if rax == abi::HYPERCALL_IRET => self.note_read(rsp, size_of::<abi::IretContext>() as u64),
            abi::PORT_ERETS | abi::PORT_ERETU => self.note_read(rsp, 64),
            _ => self.predictor.accesses.all = true,
        }
        let frame = self.traced_frame(port, rax, rsp);
        let outcome = self.pv_outcome(port, OUT_BYTES);
        if let Outcome::Resumed { .. } = outcome {
            self.vm.state_mut().undefined = 0; // RFLAGS is the frame's
        }
        self.trace_return(frame, &outcome);
        match outcome {
            Outcome::Refused(refusal) => self.predict_fault(refusal),
            outcome => Ok(Stop::Pv(outcome)),
        }
    }

    fn predict_fault(&mut self, refusal: Refusal) -> Result<Stop, Error> {
        let code = crate::image::vectors::has_error_code(refusal.vector).then_some(refusal.error.into());
        self.vm.state_mut().events.exception = Default::default();
        let mut cpu = self.cpu();
        let p = &mut self.predictor;
        let mut ram = Ram::new(self.vm.ram_mut(), &mut p.accesses.list).with_read_only(&p.read_only);
        let end = match &mut p.trace {
            Some(trace) => p.model.deliver_exception(&mut cpu, &mut ram, &mut **trace, refusal.vector, code),
            None => p.model.deliver_exception(&mut cpu, &mut ram, &mut Untraced, refusal.vector, code),
        };
        self.put_cpu(&cpu);
        self.came_to(end)
    }

    /// Delivers an NMI by the model. `None` where it does not understand the state.
    pub(super) fn predict_nmi(&mut self) -> Result<Option<Stop>, Error> {
        self.predict_external(NMI)
    }

    /// The same of any event from outside.
    pub(super) fn predict_external(&mut self, vector: u8) -> Result<Option<Stop>, Error> {
        let mut cpu = self.cpu();
        let p = &mut self.predictor;
        let mut ram = Ram::new(self.vm.ram_mut(), &mut p.accesses.list).with_read_only(&p.read_only);
        let end = match (&mut p.trace, vector) {
            (Some(trace), NMI) => p.model.deliver_nmi(&mut cpu, &mut ram, &mut **trace),
            (None, NMI) => p.model.deliver_nmi(&mut cpu, &mut ram, &mut Untraced),
            (Some(trace), _) => p.model.deliver_interrupt(&mut cpu, &mut ram, &mut **trace, vector),
            (None, _) => p.model.deliver_interrupt(&mut cpu, &mut ram, &mut Untraced, vector),
        };
        if let End::NotUnderstood(_) = end {
            self.predictor.accesses.all = true;
            return Ok(None);
        }
        self.put_cpu(&cpu);
        self.came_to(end).map(Some)
    }

    /// Runs by the model until execution stands at one of `stops`, RSP leaves the declared
    /// stacks, or the run stops for another reason. At least one instruction is executed.
    pub(super) fn predict_leg(&mut self, stops: &[u64]) -> Result<Stop, Error> {
        for _ in 0..LONGEST_RUN {
            let stop = self.step()?;
            self.trace_stack();
            if stop != Stop::Boundary || stops.contains(&self.rip()) || self.is_astray() || self.runs_users_code() {
                return Ok(stop);
            }
            if self.idt.vector_of(self.rip()).is_some() {
                return Ok(stop);
            }
        }
        Ok(Stop::Interrupted)
    }

    /// Whether code at CPL 0 is about to execute what user code can: the oracle must look (I15).
    fn runs_users_code(&self) -> bool {
        let state = self.state();
        self.user.is_some()
            && state.sregs.cs.selector & 3 == 0
            && is_user(self.memory().0, state.sregs.cr3, state.regs.rip)
    }

    /// Whether RSP of code at CPL 0 is in no declared stack: the oracle must look (I9).
    fn is_astray(&self) -> bool {
        let (rsp, declared) = (self.state().regs.rsp, &self.guest.image.declared);
        let inside = || {
            declared.stacks.iter().any(|s| s.range.start < rsp && rsp <= s.range.end)
                || declared.aliases.iter().any(|a| a.contains(&rsp))
        };
        self.state().sregs.cs.selector & 3 == 0 && !declared.stacks.is_empty() && !inside()
    }

    /// Whether the model can carry this machine: the VMM's own bugs are played on KVM.
    pub fn can_predict(&self) -> bool {
        self.knobs.hv_bug.is_none() && (self.mode() == Mode::Native || self.transport() == super::Transport::Port)
    }
}

/// Vector of NMIs (SDM vol. 3, table 6-1).
const NMI: u8 = 2;
