//! A scene on this host's KVM.

pub mod deviations;

use vmm::cpu::conform::{HostEnd, Outcome, RAM, Scene};
use vmm::cpu::{Cpu, Msrs, Regs, Segment, Sregs, Table};
use vmm::kvm::{Exit, Host, VcpuState, Vm};

/// A VM that scenes are run in, one after the other.
pub struct Machine {
    vm: Vm,
    msrs: Msrs,
}

macro_rules! copy {
    ($to:expr, $from:expr, $($field:ident)*) => { $( $to.$field = $from.$field; )* };
}

fn load_segment(to: &mut vmm::kvm::Segment, from: &Segment) {
    copy!(to, from, base limit selector type_ present dpl db s l g avl unusable);
}

fn store_segment(from: &vmm::kvm::Segment) -> Segment {
    let mut to = Segment::default();
    copy!(to, from, base limit selector type_ present dpl db s l g avl unusable);
    to
}

fn load(to: &mut VcpuState, from: &Cpu) {
    copy!(to.regs, from.regs, rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);
    copy!(to.sregs, from.sregs, cr0 cr2 cr3 cr4 cr8 efer);
    let (s, f) = (&mut to.sregs, &from.sregs);
    for (to, from) in [
        (&mut s.cs, &f.cs),
        (&mut s.ds, &f.ds),
        (&mut s.es, &f.es),
        (&mut s.fs, &f.fs),
        (&mut s.gs, &f.gs),
        (&mut s.ss, &f.ss),
        (&mut s.tr, &f.tr),
        (&mut s.ldt, &f.ldt),
    ] {
        load_segment(to, from);
    }
    (s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit) = (f.gdt.base, f.gdt.limit, f.idt.base, f.idt.limit);
    to.events = Default::default();
    to.events.nmi.masked = from.events.nmi.masked;
    to.kernel_gs = from.kernel_gs;
}

fn store(from: &VcpuState) -> Cpu {
    let mut cpu = Cpu::default();
    let mut regs = Regs::default();
    copy!(regs, from.regs, rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);
    let f = &from.sregs;
    let mut s = Sregs::default();
    copy!(s, f, cr0 cr2 cr3 cr4 cr8 efer);
    (s.cs, s.ds, s.es, s.fs) = (store_segment(&f.cs), store_segment(&f.ds), store_segment(&f.es), store_segment(&f.fs));
    (s.gs, s.ss, s.tr, s.ldt) =
        (store_segment(&f.gs), store_segment(&f.ss), store_segment(&f.tr), store_segment(&f.ldt));
    s.gdt = Table { base: f.gdt.base, limit: f.gdt.limit };
    s.idt = Table { base: f.idt.base, limit: f.idt.limit };
    (cpu.regs, cpu.sregs, cpu.kernel_gs) = (regs, s, from.kernel_gs);
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
