//! One virtual machine with one vCPU.

use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_XEN, KVM_EXIT_XEN_HCALL, kvm_userspace_memory_region};
use kvm_ioctls::{SyncReg, VcpuFd, VmFd};
use std::sync::Arc;

use super::components::Components;
use super::host::SYNC_ALL;
use super::ram::Ram;
use super::smram::Smram;
use super::state::{KernelGs, VcpuState, loaded};
use super::watchdog::Watch;
use super::{Error, Exit, Host};
use crate::cpu::{Classes, Events, LazyId};

/// Runs that may end as if interrupted, and were not: a signal from outside does that once. A KVM
/// that cannot start a thread of its own does it at every run.
const MOST_UNASKED: u32 = 100;

/// A virtual machine: RAM from guest-physical 0 up, one vCPU, no devices and no
/// interrupt controller.
pub struct Vm {
    // Declared before `ram`: the slot must go before the memory under it.
    pub(super) vcpu: VcpuFd,
    pub(super) fd: VmFd,
    pub(super) ram: Ram,
    /// Memory of SMM, once an SMI was raised; after `fd` for the same reason as `ram`.
    pub(super) smram: Option<Smram>,
    pub(super) state: VcpuState,
    /// A real NMI was raised since the last run: the events are in the kernel
    /// already, and loading them again would drop it.
    nmi_raised: bool,
    /// [`super::Quirks::no_event_nmi`].
    no_event_nmi: bool,
    watch: Arc<Watch>,
    pub(super) kernel_gs: KernelGs,
    /// The lazy state that the vCPU has.
    pub(super) lazy_loaded: LazyId,
    /// The parts of its vector state.
    pub(super) components: Components,
    /// The classes of it that are read after every run.
    pub(super) lazy_classes: Classes,
    runs: u64,
    /// Runs in a row that ended as if interrupted, and were not.
    unasked: u32,
    /// Whether an OUT's exit leaves RIP behind the instruction with nothing left to
    /// complete; measured at this VM's first OUT.
    out_is_complete: Option<bool>,
    /// [`Vm::take_time_read`].
    pub(super) time_read: Option<u64>,
}

impl Vm {
    /// Makes a VM with `ram_bytes` of zeroed RAM and its vCPU in reset state.
    pub fn new(host: &Host, ram_bytes: u64) -> Result<Self, Error> {
        Self::build(host, ram_bytes, false)
    }

    /// The same, with KVM's own interrupt controllers: 8259s, I/O APIC and local APIC. What is
    /// found out about them is what the lab's own are held to.
    pub fn with_interrupt_controllers(host: &Host, ram_bytes: u64) -> Result<Self, Error> {
        Self::build(host, ram_bytes, true)
    }

    fn build(host: &Host, ram_bytes: u64, controllers: bool) -> Result<Self, Error> {
        let ram = Ram::new(ram_bytes)?;
        let vm = host.kvm().create_vm().map_err(Error::ioctl("KVM_CREATE_VM"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: ram.len(),
            userspace_addr: ram.host_address(),
        };
        // SAFETY: the region is mapped, `ram_bytes` long, and lives in the same
        // struct as the VM, which is dropped first.
        unsafe { vm.set_user_memory_region(region) }.map_err(Error::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        if controllers {
            vm.create_irq_chip().map_err(Error::ioctl("KVM_CREATE_IRQCHIP"))?;
        }
        let mut vcpu = vm.create_vcpu(0).map_err(Error::ioctl("KVM_CREATE_VCPU"))?;
        vcpu.set_cpuid2(host.cpuid()).map_err(Error::ioctl("KVM_SET_CPUID2"))?;
        for reg in [SyncReg::Register, SyncReg::SystemRegister, SyncReg::VcpuEvents] {
            vcpu.set_sync_valid_reg(reg);
        }
        let state = VcpuState {
            regs: vcpu.get_regs().map_err(Error::ioctl("KVM_GET_REGS"))?.into(),
            sregs: vcpu.get_sregs().map_err(Error::ioctl("KVM_GET_SREGS"))?.into(),
            events: vcpu.get_vcpu_events().map_err(Error::ioctl("KVM_GET_VCPU_EVENTS"))?.into(),
            kernel_gs: 0,
            lazy: LazyId::default(),
            undefined: 0,
        };
        let (watch, kernel_gs) = (Watch::new()?, KernelGs::default());
        let no_event_nmi = host.quirks().no_event_nmi;
        let nmi_raised = false;
        Ok(Self {
            vcpu,
            fd: vm,
            ram,
            smram: None,
            state,
            nmi_raised,
            no_event_nmi,
            watch,
            kernel_gs,
            lazy_loaded: LazyId::default(),
            components: Components::of(host.cpuid()),
            lazy_classes: Classes::default(),
            runs: 0,
            unasked: 0,
            out_is_complete: None,
            time_read: None,
        })
    }

    /// Guest RAM.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Guest RAM, to write to.
    pub fn ram_mut(&mut self) -> &mut [u8] {
        self.ram.bytes_mut()
    }

    /// Copies the segments of an ELF kernel to their physical addresses; returns its entry point.
    pub fn load_elf(&mut self, elf: &[u8]) -> Result<u64, linux_loader::loader::Error> {
        self.ram.load_elf(elf)
    }

    /// The vCPU's state: what the last run left, with what was changed since.
    pub fn state(&self) -> &VcpuState {
        &self.state
    }

    /// The vCPU's state, to change before the next run.
    pub fn state_mut(&mut self) -> &mut VcpuState {
        &mut self.state
    }

    /// How often KVM_RUN was called.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Whether an OUT's exit leaves RIP behind the instruction with nothing left to
    /// complete; `None` before this VM's first OUT.
    pub fn out_is_complete(&self) -> Option<bool> {
        self.out_is_complete
    }

    /// The vCPU's descriptor.
    pub(super) fn vcpu(&self) -> &VcpuFd {
        &self.vcpu
    }

    /// Whether the next runs leave before the first instruction.
    pub(super) fn set_immediate_exit(&mut self, at_once: bool) {
        self.vcpu.set_kvm_immediate_exit(at_once.into());
    }

    /// Puts an NMI in front of the vCPU for the next run: pending in the events, which are
    /// loaded with the registers, or by `KVM_NMI` on a host where that does not deliver it.
    pub fn pend_nmi(&mut self) -> Result<(), Error> {
        if self.no_event_nmi {
            return self.raise_nmi();
        }
        self.state.events.nmi.pending = 1;
        Ok(())
    }

    /// Raises a real NMI (`KVM_NMI`) for the next run; called again before that run,
    /// one more. The events must not be changed between here and the run.
    pub fn raise_nmi(&mut self) -> Result<(), Error> {
        if !self.nmi_raised {
            self.vcpu.set_vcpu_events(&loaded(self.state.events)).map_err(Error::ioctl("KVM_SET_VCPU_EVENTS"))?;
        }
        self.vcpu.nmi().map_err(Error::ioctl("KVM_NMI"))?;
        self.nmi_raised = true;
        Ok(())
    }

    /// Writes the events now, and not with the next run.
    pub fn write_events(&mut self, events: Events) -> Result<(), Error> {
        self.vcpu.set_vcpu_events(&loaded(events)).map_err(Error::ioctl("KVM_SET_VCPU_EVENTS"))?;
        (self.state.events, self.nmi_raised) = (events, true);
        Ok(())
    }

    /// Whether a run ends ([`Exit::InterruptWindow`]) as soon as an interrupt could be taken.
    pub fn want_interrupt_window(&mut self, wanted: bool) {
        self.vcpu.get_kvm_run().request_interrupt_window = wanted.into();
    }

    /// Loads the state, runs until the guest exits, and stores the state.
    ///
    /// After an OUT the state is that behind the instruction on every host. A WRMSR to a
    /// register that is part of the state is carried out, and the run goes on; so is an RDMSR of
    /// time, which [`Vm::take_time_read`] then says.
    pub fn run(&mut self) -> Result<Exit, Error> {
        let mut dirty =
            if std::mem::take(&mut self.nmi_raised) { SYNC_ALL & !kvm_bindings::KVM_SYNC_X86_EVENTS } else { SYNC_ALL };
        self.load_kernel_gs()?;
        self.load_lazy()?;
        self.state.store(self.vcpu.sync_regs_mut());
        // Without an interrupt controller in the kernel, KVM takes CR8 from here at every run.
        self.vcpu.get_kvm_run().cr8 = self.state.sregs.cr8;
        let exit = loop {
            match self.enter(dirty)? {
                Exit::WriteMsr { index, data } if self.write_msr_for_guest(index, data)? => dirty = 0,
                Exit::ReadMsr { index } => {
                    self.read_msr_for_guest(index)?;
                    dirty = 0;
                }
                exit => break exit,
            }
        };
        if matches!(exit, Exit::Out { .. }) && self.out_is_complete != Some(true) {
            let rip = self.vcpu.sync_regs_mut().regs.rip;
            self.complete_io()?;
            let moved = self.vcpu.sync_regs_mut().regs.rip != rip;
            self.out_is_complete.get_or_insert(!moved);
        }
        if matches!(exit, Exit::XenHypercall { .. }) {
            self.complete_xen_hypercall()?;
        }
        self.fetch()?;
        Ok(exit)
    }

    /// Gives up the instruction that the last run left half done: one that reads a port or memory
    /// where nothing is, or writes an MSR. KVM would finish it in the next run, over whatever state
    /// was loaded meanwhile.
    pub fn abandon(&mut self) -> Result<(), Error> {
        /// Parts that KVM takes one access in, at most: those of a whole vector register, and
        /// both operands of an instruction that reads and writes.
        const PARTS: usize = 32;
        self.vcpu.set_kvm_immediate_exit(1);
        let ends = (0..PARTS).map(|_| self.enter(0)).find(|exit| !matches!(exit, Ok(exit) if exit.is_half_done()));
        self.vcpu.set_kvm_immediate_exit(0);
        ends.map_or(Ok(()), |exit| exit.map(|_| ()))
    }

    /// Reads the state that the vCPU was left with.
    pub(super) fn fetch(&mut self) -> Result<(), Error> {
        self.state.load(self.vcpu.sync_regs_mut());
        self.state.undefined = 0;
        self.state.sregs.cr8 = self.vcpu.get_kvm_run().cr8;
        self.fetch_kernel_gs()?;
        self.fetch_lazy()
    }

    pub(super) fn enter(&mut self, dirty: u32) -> Result<Exit, Error> {
        self.vcpu.get_kvm_run().kvm_dirty_regs = dirty.into();
        self.runs += 1;
        let (watch, vcpu) = (&self.watch, &mut self.vcpu);
        let interrupts = watch.interrupts();
        let exit = watch.guard(|| vcpu.run().map(Exit::of));
        let asked = watch.interrupts() != interrupts;
        self.unasked = if exit.is_ok() || asked { 0 } else { self.unasked + 1 };
        match exit {
            Ok(Some(exit)) => Ok(exit),
            Ok(None) => Ok(exit_of(self.vcpu.get_kvm_run())),
            Err(e) if [libc::EINTR, libc::EAGAIN].contains(&e.errno()) => match self.unasked < MOST_UNASKED {
                true => Ok(Exit::Interrupted),
                false => Err(Error::ioctl("KVM_RUN, again and again, though nobody interrupts it")(e)),
            },
            Err(e) => Err(Error::ioctl("KVM_RUN")(e)),
        }
    }

    /// Lets KVM finish an OUT. kvm_amd and kvm_intel exit with RIP still at the
    /// instruction and advance it on the next KVM_RUN, over whatever state was
    /// loaded meanwhile; a run that is told to exit at once does only that. kvm_pvm
    /// exits with RIP behind it and nothing to finish, which spares it a run per OUT.
    pub(super) fn complete_io(&mut self) -> Result<(), Error> {
        self.vcpu.set_kvm_immediate_exit(1);
        let exit = self.enter(0);
        self.unasked = 0;
        self.vcpu.set_kvm_immediate_exit(0);
        match exit? {
            Exit::Interrupted => Ok(()),
            other => Err(Error::Ioctl {
                call: "KVM_RUN with immediate_exit",
                errno: std::io::Error::other(format!("ended in {other:?} instead of at once")),
            }),
        }
    }
}

/// The exits that kvm-ioctls has no whole account of, from KVM's record.
fn exit_of(run: &kvm_bindings::kvm_run) -> Exit {
    match run.exit_reason {
        KVM_EXIT_XEN => {
            // SAFETY: for KVM_EXIT_XEN the kernel fills this member of the union.
            let xen = unsafe { run.__bindgen_anon_1.xen };
            if xen.type_ != KVM_EXIT_XEN_HCALL {
                return Exit::Other(KVM_EXIT_XEN);
            }
            // SAFETY: its type says that it is a hypercall.
            Exit::XenHypercall { number: unsafe { xen.u.hcall }.input }
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: for KVM_EXIT_INTERNAL_ERROR the kernel fills this member; where
            // it tells no instruction bytes, ndata says so.
            let e = unsafe { run.__bindgen_anon_1.emulation_failure };
            let mut bytes = [0; 15];
            if e.suberror == 1 && e.ndata >= 1 && e.flags & 1 != 0 {
                // SAFETY: KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES says that
                // this member is filled.
                bytes = unsafe { e.__bindgen_anon_1.__bindgen_anon_1.insn_bytes };
            }
            Exit::InternalError { suberror: e.suberror, bytes }
        }
        other => Exit::Other(other),
    }
}
