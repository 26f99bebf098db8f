//! A scene on this host's KVM.

pub mod deviations;

use vmm::cpu::conform::{HostEnd, Outcome, RAM, Scene};
use vmm::cpu::{Cpu, Msrs};
use vmm::kvm::{Exit, Host, VcpuState, Vm};

/// A VM that scenes are run in, one after the other.
pub struct Machine {
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

impl Machine {
    pub fn new(host: &Host) -> Self {
        vmm::kvm::interrupt_after(std::time::Duration::from_secs(2));
        let mut vm = Vm::new(host, RAM).expect("a VM");
        vm.carry_kernel_gs(true).expect("kernel GS");
        Self { vm, msrs: Msrs { values: [u64::MAX; 9] } }
    }

    /// Runs a scene to its end. Registers that the sync area does not hold are loaded where
    /// they changed, and read where the code can have changed them.
    pub fn run(&mut self, scene: &Scene) -> Outcome {
        for (i, number) in Msrs::NUMBERS.into_iter().enumerate() {
            if self.msrs.values[i] != scene.cpu.msrs.values[i] {
                assert!(self.vm.set_msr(number, scene.cpu.msrs.values[i]).expect("MSRs"), "MSR {number:#x}");
            }
        }
        self.msrs = scene.cpu.msrs;
        self.vm.ram_mut().copy_from_slice(&scene.ram);
        load(self.vm.state_mut(), &scene.cpu);
        let exit = self.vm.run();
        let mut cpu = store(self.vm.state());
        if scene.code.ends_with(&[0x0f, 0x30]) {
            for (i, number) in Msrs::NUMBERS.into_iter().enumerate() {
                self.msrs.values[i] = self.vm.msr(number).expect("MSRs").unwrap_or(0);
            }
        }
        cpu.msrs = self.msrs;
        let ram = self.vm.ram().bytes().to_vec();
        let end = match exit {
            Ok(Exit::Hlt) => HostEnd::Halt,
            Ok(Exit::Out { port, value }) => HostEnd::Out { port, value },
            Ok(Exit::In { port }) => HostEnd::In { port },
            Ok(Exit::Shutdown) => HostEnd::Shutdown,
            Ok(Exit::InternalError { suberror, .. }) => {
                HostEnd::Failed(format!("KVM_EXIT_INTERNAL_ERROR, suberror {suberror}"))
            }
            Ok(other) => HostEnd::Failed(format!("{other:?}")),
            Err(error) => HostEnd::Failed(error.to_string()),
        };
        if let HostEnd::In { .. } = end {
            // The exit stands at the instruction, which the caller completes.
            cpu.regs.rip = scene.cpu.regs.rip.wrapping_add(scene.code.len() as u64);
        }
        let left_over = cpu.sregs.cr8 != 0;
        if left_over || matches!(end, HostEnd::Failed(_) | HostEnd::In { .. } | HostEnd::Shutdown) {
            self.renew();
        }
        Outcome { cpu, ram, end, undefined: Vec::new() }
    }

    /// What is left half done in a vCPU must not reach the next scene.
    fn renew(&mut self) {
        let host = Host::open().expect("/dev/kvm");
        *self = Self::new(&host);
    }
}
