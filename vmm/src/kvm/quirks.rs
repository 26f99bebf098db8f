//! What a KVM leaves undone, and what it has beyond the rest.

/// What is done differently on a host. Each is switched on by what [`crate::probe`]
/// measured, and by nothing else; a plain and complete KVM has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// INT3 at CPL 0 ends in KVM_EXIT_INTERNAL_ERROR, suberror 1 (kvm_pvm: its emulator
    /// does not know it). The VMM raises #BP in its place. Probe `int3`.
    pub no_int3: bool,
    /// An NMI pending in the vCPU events is not delivered at once. NMIs are raised by
    /// the KVM_NMI ioctl then, which is one call more. Probes `nmi-in-events`,
    /// `events-settable`, `mask-from-outside`. On none of the hosts measured so far.
    pub no_event_nmi: bool,
    /// SYSCALL from ring 3 loads RIP, RCX, R11 and RFLAGS but stays at CPL 3, and faults at
    /// LSTAR (kvm_pvm). The VMM completes it. Probe `ring3-syscall`.
    pub half_syscall: bool,
    /// An iretq to a stack segment of an LDT raises #GP (kvm_pvm), or gives back all of a
    /// 16-bit stack's RSP: scenarios that need such a stack are not shown. Probes
    /// `ring3-iretq-ldt`, `ring3-iretq-ldt-rsp`.
    pub no_ldt_ss16: bool,
    /// Every delivery of an event clears RFLAGS.AC in its handler (kvm_pvm). The model of the CPU
    /// predicts that, and a search that met it says so. Probe `delivery-ac`.
    pub delivery_clears_ac: bool,
    /// A call through the Xen hypercall page that KVM writes leaves exactly, so that PV
    /// guests may use it in place of port I/O. Probe `hypercall-transport`.
    pub xen_page: bool,
    /// SMIs are real: KVM_SMI, with a handler that ends by RSM. Elsewhere the lab plays them.
    /// Probes `smi-in-nmi`, `smi-and-nmi`.
    pub smm: bool,
    /// A guest's own trap flag.
    pub tf: TrapFlag,
}

/// Where a trap flag that the guest itself has set does not do what the architecture
/// says. Nothing is done about it: a guest that comes there cannot be judged here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrapFlag {
    /// At all: a stop leaves a #DB that does not belong there (kvm_intel on Bochs), or
    /// another of the probes `tf-popfq`, `tf-popfq-clear`, `tf-iretq`, `tf-ret`,
    /// `tf-fault`, `tf-nmi`, `tf-hlt-stop`, `tf-stretch` is wrong.
    pub wrong: bool,
    /// Behind a load of SS (kvm_pvm: the shadow does not hold #DB back). Probe `tf-mov-ss`.
    pub wrong_at_mov_ss: bool,
    /// Behind STI (kvm_amd on QEMU: #DB is held back). Probe `tf-sti`.
    pub wrong_at_sti: bool,
    /// Behind swapgs (kvm_pvm: #DB is one instruction late). Probe `tf-swapgs`.
    pub wrong_at_swapgs: bool,
}
