//! The lab machine: one guest image, booted to *ready*, that runs from boundary to
//! boundary.

use std::sync::Arc;

use guest::abi;

use super::boot;
use super::error::Error;
use super::hv_bug::HvBug;
use super::idt::Idt;
use super::memory::GuestMemory;
use super::needs;
use super::predictor::Predictor;
use super::pv::Pv;
use super::stop::Stop;
use super::tables::Unprotected;
use super::transport::{self, Transport};
use crate::cpu::{Classes, msr, rflags};
use crate::image::Guest;
use crate::image::declare::{Scenario, Scheme};
use crate::image::manifest::Mode;
use crate::kvm::{Exit, Host, Quirks, VcpuState, Vm, XEN_CALL_BYTES};

/// KVM_INTERNAL_ERROR_EMULATION.
const EMULATION_FAILURE: u32 = 1;
const INT3: u8 = 0xcc;
/// Bytes of `out %eax, $PORT`.
const OUT_BYTES: u64 = 2;

/// Where the architecture leaves a choice, or a host differs from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Knobs {
    /// A faulting IRET unblocks NMIs all the same (SDM vol. 3, 6.7.1).
    pub faulting_iret_unblocks: bool,
    /// A hypervisor's bug to play.
    pub hv_bug: Option<HvBug>,
    /// What carries hypercalls in mode pv, where that is chosen; no verdict depends on it.
    pub transport: Option<Transport>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self { faulting_iret_unblocks: true, hv_bug: None, transport: None }
    }
}

/// What is fixed about a guest's user mode from *ready* on.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserMode {
    /// IA32_LSTAR: where SYSCALL goes.
    pub lstar: u64,
}

impl UserMode {
    /// Of a guest at *ready*.
    pub fn of(vm: &Vm) -> Result<Self, Error> {
        Ok(Self { lstar: vm.msr(msr::LSTAR)?.unwrap_or(0) })
    }
}

/// A guest in a VM.
pub struct Machine {
    pub(super) vm: Vm,
    pub(super) guest: Arc<Guest>,
    pub(super) idt: Idt,
    pub(super) pv: Pv,
    pub(super) latched: bool,
    pub(super) knobs: Knobs,
    pub(super) quirks: Quirks,
    pub(super) mode: Mode,
    transport: Transport,
    /// Guest-physical addresses of the pages that a run may write.
    pub(super) pages: Vec<u64>,
    /// Whether the scenario has user code, and where its system calls go.
    pub(super) user: Option<UserMode>,
    /// Memory that this host cannot protect.
    pub(super) unprotected: Option<Unprotected>,
    /// Another state was put here since the IDT was read.
    pub(super) restored: bool,
    /// This KVM's IRET to an outer level leaves segments that code there may not use.
    pub(super) keeps_segments: bool,
    /// HLTs at which the guest waits for an event.
    pub(super) halts: Vec<u64>,
    /// The lazy state that the scheme and the scenario declare; `None`: the image's code says.
    pub(super) uses: Option<Classes>,
    /// Instructions that touch other lazy state.
    pub(super) undeclared: Vec<u64>,
    /// The model of the CPU, which may execute in KVM's place.
    pub(super) predictor: Predictor,
    /// [`Machine::read_time`].
    pub(super) read_time: Option<u64>,
    /// [`Machine::time_reads`].
    pub(super) time_reads: u64,
    /// [`Machine::take_smi_played`].
    pub(super) smi_played: bool,
    /// Patched bytes of the run under way: physical address, virtual, old byte.
    pub(super) patches: Vec<(usize, u64, u8)>,
}

impl Machine {
    /// Boots `guest` with a scheme and a scenario until it reports *ready*.
    pub fn boot(
        host: &Host,
        guest: &Arc<Guest>,
        scheme: &Scheme,
        scenario: &Scenario,
        knobs: Knobs,
    ) -> Result<Self, Error> {
        if host.quirks().tf.wrong && scenario.traps.iter().any(|trap| trap.vector == needs::DB) {
            return Err(Error::Limit(needs::no_truth("tf-hlt-stop")));
        }
        let image = &guest.image;
        if let Some(why) = scenario.not_shown(host.quirks()) {
            return Err(Error::Limit(format!("{}: {why}", scenario.name)));
        }
        let mut vm = Vm::new(host, image.declared.ram)?;
        boot::prepare(&mut vm, image, scheme.arg, scenario.arg)?;
        let transport = Transport::choose(host, guest, knobs.transport, scheme.mode)?;
        if let (Transport::Xen, Some(page)) = (transport, image.declared.hypercalls.and_then(|p| image.paddr(p))) {
            transport::write_page(&mut vm, page)?;
        }
        let pages = image
            .segments
            .iter()
            .filter(|s| s.write)
            .flat_map(|s| (s.paddr & !4095..(s.paddr + s.size).next_multiple_of(4096)).step_by(4096))
            .collect();
        let mut machine = Self {
            vm,
            guest: Arc::clone(guest),
            idt: Idt::default(),
            pv: Pv::default(),
            latched: false,
            knobs,
            quirks: host.quirks(),
            mode: scheme.mode,
            transport,
            pages,
            user: None,
            unprotected: None,
            restored: false,
            keeps_segments: false,
            halts: scenario.halts.clone(),
            uses: image.declared.uses(scheme, scenario),
            undeclared: Vec::new(),
            predictor: Predictor::default(),
            read_time: None,
            time_reads: 0,
            smi_played: false,
            patches: Vec::with_capacity(64),
        };
        machine.run_to_ready()?;
        machine.close(host)?;
        machine.vm.carry_kernel_gs(scenario.ring3)?;
        machine.user = if scenario.ring3 { Some(UserMode::of(&machine.vm)?) } else { None };
        if machine.mode == Mode::Native && machine.idt.handler(2).is_none() {
            return Err(Error::NotReady("its IDT has no handler for NMIs (vector 2)".into()));
        }
        if machine.mode == Mode::Pv && !machine.pv.can_deliver() {
            return Err(Error::NotReady("it registered no NMI callback (HYPERVISOR_callback_op) in mode pv".into()));
        }
        Ok(machine)
    }

    pub(super) fn place(&self, addr: u64) -> String {
        match self.guest.image.symbols.nearest_code(addr, "") {
            Some(s) if addr - s.addr < 4096 => format!("{}+{:#x}", s.name, addr - s.addr),
            _ => format!("{addr:#x}"),
        }
    }

    /// The message of a guest that panicked, while it stands behind the hypercall.
    pub fn panic_message(&self) -> String {
        let regs = &self.state().regs;
        let mut text = vec![0; regs.rsi.min(1024) as usize];
        match self.memory().read(self.state().sregs.cr3, regs.rdi, &mut text) {
            true => String::from_utf8_lossy(&text).into_owned(),
            false => format!("(its message at {:#x} cannot be read)", regs.rdi),
        }
    }

    /// Runs the vCPU once and says why it stopped, with no patched stops.
    pub(super) fn resume(&mut self) -> Result<Stop, Error> {
        let exit = self.vm.run()?;
        if let Some(rip) = self.vm.take_time_read() {
            self.saw_time(rip);
        }
        if exit.is_half_done() {
            self.vm.abandon()?;
        }
        if let Some(unprotected) = &mut self.unprotected
            && let Some(paddr) =
                unprotected.check(&mut self.vm, |at| self.patches.iter().any(|(paddr, ..)| *paddr as u64 == at))?
        {
            return Err(self.wrote_unseen(paddr));
        }
        Ok(match exit {
            Exit::Hlt => {
                let state = self.vm.state_mut();
                state.regs.rip = state.regs.rip.wrapping_sub(1);
                match self.idt.stub_vector(state.regs.rip) {
                    Some(vector) => Stop::Undeclared(vector),
                    None => Stop::Halt,
                }
            }
            Exit::XenHypercall { .. } => return self.pv_hypercall(abi::PORT_PV, XEN_CALL_BYTES),
            Exit::Out { port, .. } => match u8::try_from(port) {
                Ok(port @ (abi::PORT_PV | abi::PORT_ERETS | abi::PORT_ERETU)) => {
                    return self.pv_hypercall(port, OUT_BYTES);
                }
                Ok(port) => {
                    self.latched &= self.knobs.hv_bug != Some(HvBug::PendingLostAtExit);
                    Stop::Hypercall(port)
                }
                Err(_) => Stop::Failed(format!("an OUT to port {port:#x}, where nothing is")),
            },
            Exit::Shutdown => Stop::Shutdown,
            Exit::Interrupted => Stop::Interrupted,
            Exit::In { port } => Stop::Failed(format!("an IN from port {port:#x}, where nothing is")),
            Exit::Mmio { addr, write: true, .. } if addr < self.vm.ram().len() => return Err(self.wrote_unseen(addr)),
            Exit::WriteMsr { index, .. } => Stop::Failed(format!(
                "WRMSR to {index:#x} at {}: this register is not part of the machine state that the lab carries on this host",
                self.place(self.rip())
            )),
            Exit::ReadMsr { index } => Stop::Failed(format!("an RDMSR of {index:#x} that was not carried out")),
            Exit::Mmio { addr, write, .. } => {
                let what = if write { "a write to" } else { "a read from" };
                Stop::Failed(format!("{what} physical {addr:#x}, where no memory is"))
            }
            Exit::InternalError { suberror: EMULATION_FAILURE, bytes }
                if self.quirks.no_int3 && bytes.first() == Some(&INT3) =>
            {
                // The trap that the emulator should have taken.
                let state = self.vm.state_mut();
                state.regs.rip += 1;
                state.events.exception.injected = 1;
                state.events.exception.nr = 3;
                state.events.exception.has_error_code = 0;
                return self.resume();
            }
            Exit::InternalError { suberror, bytes } => {
                Stop::Failed(format!("KVM could not execute the instruction (suberror {suberror}, bytes {bytes:02x?})"))
            }
            Exit::Debug { pc, .. } => Stop::Failed(format!("a debug exit at {pc:#x} that nobody asked for")),
            Exit::TaskPriority | Exit::InterruptWindow => Stop::Failed(format!("the guest uses interrupts ({exit:?})")),
            Exit::Other(reason) => Stop::Failed(format!("KVM exit {reason}")),
        })
    }

    /// Who owns the NMI mask.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What carries hypercalls.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The PV layer's state.
    pub fn pv(&self) -> &Pv {
        &self.pv
    }

    /// The image and its code.
    pub fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// The guest's IDT as it was at *ready*.
    pub fn idt(&self) -> &Idt {
        &self.idt
    }

    /// The model knobs in force.
    pub fn knobs(&self) -> Knobs {
        self.knobs
    }

    /// Registers and events.
    pub fn state(&self) -> &VcpuState {
        self.vm.state()
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.vm.state().regs.rip
    }

    /// Guest memory.
    pub fn memory(&self) -> GuestMemory<'_> {
        GuestMemory(self.vm.ram().bytes())
    }

    /// How often KVM_RUN was called.
    pub fn runs(&self) -> u64 {
        self.vm.runs()
    }

    /// Guest-physical addresses of the pages that a run may write.
    pub fn pages(&self) -> &[u64] {
        &self.pages
    }

    /// B: whether NMIs are blocked.
    pub fn blocked(&self) -> bool {
        match self.mode {
            Mode::Native => self.vm.state().events.nmi.masked != 0,
            Mode::Pv => self.pv.masked,
        }
    }

    /// Sets B from outside: what an SMI or a machine check does to a live handler.
    pub fn set_blocked(&mut self, blocked: bool) {
        match self.mode {
            Mode::Native => self.vm.state_mut().events.nmi.masked = blocked.into(),
            Mode::Pv => self.pv.masked = blocked,
        }
    }

    /// Whether this hypervisor's RSM unblocks NMIs, for a guest whose mask is the CPU's.
    pub fn rsm_unblocks(&self) -> bool {
        self.mode == Mode::Native && self.knobs.hv_bug == Some(HvBug::RsmUnblocks)
    }

    /// P: whether an NMI is latched.
    pub fn pending(&self) -> bool {
        match self.mode {
            Mode::Native => self.latched,
            Mode::Pv => self.pv.pending,
        }
    }

    /// Whether the VMM keeps an NMI for a native guest.
    pub fn latched(&self) -> bool {
        self.latched
    }

    /// An NMI arrives: one is remembered, however many come (I1).
    pub fn latch(&mut self) {
        match (self.mode, self.knobs.hv_bug) {
            (Mode::Native, Some(HvBug::SecondNmiLost))
                if self.blocked() && self.idt.vector_of(self.rip()) == Some(2) => {}
            (Mode::Pv, Some(HvBug::InvertedTestAndSet)) if !self.pv.pending => {}
            (Mode::Native, _) => self.latched = true,
            (Mode::Pv, _) => self.pv.raise(),
        }
    }

    /// Whether the boundary lies in a one-instruction shadow (SDM vol. 3, 6.8.3).
    pub fn in_shadow(&self) -> bool {
        self.vm.state().events.interrupt.shadow != 0
    }

    /// Clears RF, which every completed instruction clears (SDM vol. 3, 17.3.1.1).
    pub(super) fn clear_rf(&mut self) {
        self.vm.state_mut().regs.rflags &= !rflags::RF;
    }
}
