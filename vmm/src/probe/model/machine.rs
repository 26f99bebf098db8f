//! A scene on this host's KVM.

use std::time::Duration;

use crate::cpu::conform::{HostEnd, Outcome, RAM, Scene};
use crate::cpu::{Cpu, Msrs};
use crate::kvm::{self, Exit, Host, VcpuState, Vm};

/// CPU time after which a scene has no end.
const LONGEST: Duration = Duration::from_secs(2);

/// `wrmsr`.
const WRMSR: &[u8] = &[0x0f, 0x30];

/// A VM that scenes are run in, one after the other.
pub struct Machine<'a> {
    host: &'a Host,
    vm: Vm,
    msrs: Msrs,
}

fn load(to: &mut VcpuState, from: &Cpu) {
    let apic_base = to.sregs.apic_base;
    (to.regs, to.sregs, to.events) = (from.regs, from.sregs, Default::default());
    to.sregs.apic_base = apic_base; // the VM's own, which scenes do not have
    to.events.nmi.masked = from.events.nmi.masked;
    to.kernel_gs = from.kernel_gs;
}

fn store(from: &VcpuState) -> Cpu {
    let mut cpu = Cpu { regs: from.regs, sregs: from.sregs, kernel_gs: from.kernel_gs, ..Cpu::default() };
    cpu.sregs.apic_base = 0;
    cpu.events.nmi.masked = from.events.nmi.masked;
    cpu
}

impl<'a> Machine<'a> {
    /// A new one.
    pub fn new(host: &'a Host) -> Result<Self, kvm::Error> {
        kvm::interrupt_after(LONGEST);
        let mut vm = Vm::new(host, RAM)?;
        vm.carry_kernel_gs(true)?;
        Ok(Self { host, vm, msrs: Msrs { values: [u64::MAX; Msrs::NUMBERS.len()] } })
    }

    /// Runs a scene to its end.
    pub fn run(&mut self, scene: &Scene) -> Outcome {
        let failed = |e: kvm::Error| Outcome {
            cpu: scene.cpu,
            ram: scene.ram.clone(),
            end: HostEnd::Failed(e.to_string()),
            undefined: Vec::new(),
        };
        let outcome = self.try_run(scene).unwrap_or_else(failed);
        // What is left half done in a vCPU must not reach the next scene.
        let left = outcome.cpu.sregs.cr8 != 0;
        if left || matches!(outcome.end, HostEnd::Failed(_) | HostEnd::In { .. } | HostEnd::Shutdown) {
            match Self::new(self.host) {
                Ok(new) => *self = new,
                Err(e) => return failed(e),
            }
        }
        outcome
    }

    /// Registers that the sync area does not hold are loaded where they changed, and read where
    /// the code can have changed them.
    fn try_run(&mut self, scene: &Scene) -> Result<Outcome, kvm::Error> {
        for (i, number) in Msrs::NUMBERS.into_iter().enumerate() {
            if self.msrs.values[i] != scene.cpu.msrs.values[i] && !self.vm.set_msr(number, scene.cpu.msrs.values[i])? {
                log::debug!("this host does not set MSR {number:#x}");
            }
        }
        self.msrs = scene.cpu.msrs;
        self.vm.ram_mut().copy_from_slice(&scene.ram);
        load(self.vm.state_mut(), &scene.cpu);
        let exit = self.vm.run();
        let mut cpu = store(self.vm.state());
        if scene.code.ends_with(WRMSR) {
            for (i, number) in Msrs::NUMBERS.into_iter().enumerate() {
                self.msrs.values[i] = self.vm.msr(number)?.unwrap_or(0);
            }
        }
        cpu.msrs = self.msrs;
        let ram = self.vm.ram().bytes().to_vec();
        let end = match exit? {
            Exit::Hlt => HostEnd::Halt,
            Exit::Out { port, value } => HostEnd::Out { port, value },
            Exit::In { port } => HostEnd::In { port },
            Exit::Shutdown => HostEnd::Shutdown,
            Exit::InternalError { suberror, .. } => {
                HostEnd::Failed(format!("KVM_EXIT_INTERNAL_ERROR, suberror {suberror}"))
            }
            other => HostEnd::Failed(format!("{other:?}")),
        };
        if let HostEnd::In { .. } = end {
            // The exit stands at the instruction, which the caller completes.
            cpu.regs.rip = scene.cpu.regs.rip.wrapping_add(scene.code.len() as u64);
        }
        Ok(Outcome { cpu, ram, end, undefined: Vec::new() })
    }
}
