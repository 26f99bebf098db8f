//! The kernel's faults: #PF brings a root's missing vmalloc entry, #NP a segment that is
//! not present, #BP and #UD are what the scenarios `bp-fault` and `ud-fault` raise on
//! purpose, #DB is what code takes that single-steps itself.
//!
//! All return by `iretq`, as every ordinary exception does: that is the iret
//! which unmasks NMIs in the middle of an NMI's body. In mode pv there is one set of
//! handlers for each way to return; where the scheme is `nmi-safe-return`, it is
//! without an iret to an NMI's body.

use core::arch::global_asm;

use guest::abi;

use super::{gdt, percpu};

/// A function that only the CPU may call.
pub type Handler = unsafe extern "C" fn();

/// A set of fault handlers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handlers {
    /// #DB.
    pub debug: Handler,
    /// #BP.
    pub breakpoint: Handler,
    /// #UD.
    pub invalid_opcode: Handler,
    /// #NP.
    pub segment_not_present: Handler,
    /// #PF.
    pub page_fault: Handler,
}

unsafe extern "C" {
    #[link_name = "fault.debug"]
    fn debug();
    #[link_name = "pv_fault.debug"]
    fn pv_debug();
    #[link_name = "bit31_fault.debug"]
    fn bit31_debug();
    #[link_name = "fred_fault.debug"]
    fn fred_debug();
    #[link_name = "safe_fault.debug"]
    fn safe_debug();
    #[link_name = "fred_fault.segment_not_present"]
    fn fred_segment_not_present();
    #[link_name = "bit31_fault.segment_not_present"]
    fn bit31_segment_not_present();
    #[link_name = "safe_fault.segment_not_present"]
    fn safe_segment_not_present();
    #[link_name = "pv_fault.segment_not_present"]
    fn pv_segment_not_present();
    #[link_name = "fault.segment_not_present"]
    fn segment_not_present();
    #[link_name = "pv_fault.general_protection"]
    fn pv_general_protection();
    #[link_name = "bit31_fault.general_protection"]
    fn bit31_general_protection();
    #[link_name = "fault.breakpoint"]
    fn breakpoint();
    #[link_name = "pv_fault.breakpoint"]
    fn pv_breakpoint();
    #[link_name = "safe_fault.breakpoint"]
    fn safe_breakpoint();
    #[link_name = "fault.invalid_opcode"]
    fn invalid_opcode();
    #[link_name = "fault.page_fault"]
    fn page_fault();
    #[link_name = "pv_fault.invalid_opcode"]
    fn pv_invalid_opcode();
    #[link_name = "pv_fault.page_fault"]
    fn pv_page_fault();
    #[link_name = "bit31_fault.breakpoint"]
    fn bit31_breakpoint();
    #[link_name = "bit31_fault.invalid_opcode"]
    fn bit31_invalid_opcode();
    #[link_name = "bit31_fault.page_fault"]
    fn bit31_page_fault();
    #[link_name = "fred_fault.breakpoint"]
    fn fred_breakpoint();
    #[link_name = "fred_fault.invalid_opcode"]
    fn fred_invalid_opcode();
    #[link_name = "fred_fault.page_fault"]
    fn fred_page_fault();
    #[link_name = "safe_fault.invalid_opcode"]
    fn safe_invalid_opcode();
    #[link_name = "safe_fault.page_fault"]
    fn safe_page_fault();
}

/// RFLAGS: the trap flag.
pub const RFLAGS_TF: i32 = 1 << 8;

/// Those that return by `iretq`.
pub const NATIVE: Handlers = Handlers { debug, breakpoint, invalid_opcode, segment_not_present, page_fault };
/// Those that return by hypercall, without its unmask flag.
pub const PV: Handlers = Handlers {
    debug: pv_debug,
    breakpoint: pv_breakpoint,
    invalid_opcode: pv_invalid_opcode,
    segment_not_present: pv_segment_not_present,
    page_fault: pv_page_fault,
};
/// Those that return by `iretq` unless bit 31 of the saved EFLAGS is set.
pub const BIT31: Handlers = Handlers {
    debug: bit31_debug,
    breakpoint: bit31_breakpoint,
    invalid_opcode: bit31_invalid_opcode,
    segment_not_present: bit31_segment_not_present,
    page_fault: bit31_page_fault,
};
/// Of #GP: makes a return that the hypervisor refused again; returns as [`PV`].
pub const PV_REFUSED: Handler = pv_general_protection;
/// The same, returning as [`BIT31`].
pub const BIT31_REFUSED: Handler = bit31_general_protection;
/// Those that return by ERETS.
pub const FRED: Handlers = Handlers {
    debug: fred_debug,
    breakpoint: fred_breakpoint,
    invalid_opcode: fred_invalid_opcode,
    segment_not_present: fred_segment_not_present,
    page_fault: fred_page_fault,
};
/// Those that return without iret to an NMI's body.
pub const NMI_SAFE: Handlers = Handlers {
    debug: safe_debug,
    breakpoint: safe_breakpoint,
    invalid_opcode: safe_invalid_opcode,
    segment_not_present: safe_segment_not_present,
    page_fault: safe_page_fault,
};

global_asm!(
    r#"
    .section .text.entry, "ax", @progbits

# RETURN_IRETQ: RSP → the five words of the frame, all registers the
# interrupted context's. Does not return.
.macro RETURN_IRETQ name
\name\()_iret:
    iretq
.endm

# RETURN_HYPERCALL: the same contract, by HYPERVISOR_iret with flags = 0: the NMI
# mask stays as it is. Below the frame it builds the other four words of
# iret_context (rax, r11, rcx, flags from RSP up).
.macro RETURN_HYPERCALL name
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax
\name\()_iret:
    jmp HYPERVISOR_iret
.endm

# RETURN_BIT31: the same contract. XenLinux's HYPERVISOR_IRET: direct, unless bit 31
# of the saved EFLAGS says that the hypervisor must hear of it.
.macro RETURN_BIT31 name
    testl ${bit31}, 16(%rsp)
    jnz xen_bit31.exit_hypercall
\name\()_iret:
    iretq
.endm

# RETURN_ERETS: the same contract. Makes the IDT's frame what FRED would have
# pushed for a fault: an error word below it, the NMI bit of the SS slot clear, and
# the stack level in the CS slot: 2 on the NMI stack, else 0.
.macro RETURN_ERETS name
    cmpq $nmi_stack_low, %rsp
    jbe .Llevel_0_\@
    cmpq $nmi_stack_high, %rsp
    ja .Llevel_0_\@
    orl ${level_2}, 8(%rsp)
.Llevel_0_\@:
    pushq $0
\name\()_iret:
    outl %eax, ${port_erets}
.endm

# RETURN_NMI_SAFE: the same contract. Within an NMI (the per-CPU flag says so) by
# popfq and ret on the interrupted stack, of which the 16 bytes below RSP are lost:
# RIP and RFLAGS. CS and SS stay as they are, which is right from kernel to kernel.
.macro RETURN_NMI_SAFE name
    cmpq $0, %gs:{in_nmi}
    jne \name\()_safe
\name\()_iret:
    iretq
\name\()_safe:
    pushq %rax
    movq %rsp, %rax
    # rax → rax, RIP, CS, RFLAGS, RSP, SS.
    movq 32(%rax), %rsp
    pushq 8(%rax)
    pushq 24(%rax)
    movq (%rax), %rax
    popfq
\name\()_ret:
    ret
.endm

# FAULTS prefix, return: the handlers, which end in macro \return.
.macro FAULTS prefix, return
    # #DB. RSP → frame. A single step of code that steps itself: goes on, with TF as the
    # frame has it; at one place TF ends, as where a probe has made its one step. Neither
    # looks at DR6 nor counts. Clobbers only RFLAGS.
    .globl \prefix\().debug
\prefix\().debug:
    cmpq $single_step.first, (%rsp)
    jb \prefix\().debug_once
    cmpq $single_step.after, (%rsp)
    jbe \prefix\().debug_exit
\prefix\().debug_once:
    cmpq $db_fault.stepped, (%rsp)
    je \prefix\().debug_end
    cmpq $step_fault.stepped, (%rsp)
    jne fault.unhandled_debug
\prefix\().debug_end:
    andl ${not_tf}, 16(%rsp)
\prefix\().debug_exit:
    \return \prefix\().debug

    # #BP. RSP → frame, whose RIP is behind the int3. Only the one that is there on
    # purpose. Clobbers only RFLAGS.
    .globl \prefix\().breakpoint
\prefix\().breakpoint:
    cmpq $bp_fault.after, (%rsp)
    jne fault.unhandled_breakpoint
    \return \prefix\().breakpoint

    # #UD. RSP → frame. Skips the two ud2 that are there on purpose; any other is
    # undeclared and stops with the frame untouched. Clobbers only RFLAGS, which
    # the frame restores.
    .globl \prefix\().invalid_opcode
\prefix\().invalid_opcode:
    cmpq $ud_fault.instruction, (%rsp)
    jne \prefix\().invalid_opcode_stepped
\prefix\().invalid_opcode_skip:
    addq $2, (%rsp)
    \return \prefix\().invalid_opcode
\prefix\().invalid_opcode_stepped:
    cmpq $step_fault.instruction, (%rsp)
    je \prefix\().invalid_opcode_skip
    jmp fault.unhandled_invalid_opcode

    # #NP. RSP → error code, frame. Brings back the one segment that comes and goes
    # (gdt::GOING_CS), and retries what wanted it: with whatever GS, on whatever stack.
    # Clobbers only RFLAGS.
    .globl \prefix\().segment_not_present
\prefix\().segment_not_present:
    cmpq $0x38, (%rsp)
    jne fault.unhandled_segment_not_present
    orb $0x80, GDT+0x38+5
    movb $1, SEGMENT_BROUGHT
    addq $8, %rsp
    \return \prefix\().segment_not_present

    # #PF. RSP → error code, frame. The Rust part keeps the registers that are
    # not saved here. Not ours: registers as they were, and stop.
    .globl \prefix\().page_fault
\prefix\().page_fault:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq 72(%rsp), %rsi
\prefix\().page_fault_cr2:
    movq %cr2, %rdi
    # The CPU aligned RSP to 16 and pushed six words, nine are above: one more.
    pushq %rsi
    cld
    call sync_kernel_entry
    testb %al, %al
    popq %r11
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    jz fault.unhandled_page_fault
    addq $8, %rsp
    \return \prefix\().page_fault
.endm

# REFUSED prefix, return: the handler of a #GP that the iret hypercall raised, since it
# would not load a segment. RSP → error code, frame: RIP is the stub's call, RSP →
# iret_context, all as they were, and NMIs are masked or not as they were. Brings back
# the one segment that comes and goes, and makes the call again. Clobbers only RFLAGS.
.macro REFUSED prefix, return
    .globl \prefix\().general_protection
\prefix\().general_protection:
    cmpq $HYPERVISOR_iret + {call}, 8(%rsp)
    jne fault.unhandled_general_protection
    pushq %rax
    movq 40(%rsp), %rax
    cmpw ${going_cs}, 40(%rax)
    popq %rax
    jne fault.unhandled_general_protection
    orb $0x80, GDT+0x38+5
    movb $1, SEGMENT_BROUGHT
    addq $8, %rsp
    \return \prefix\().general_protection
.endm

# Where handlers give up: RSP and all registers but RFLAGS are as at delivery, so
# the VMM can say what faulted.
    .globl fault.unhandled_debug
fault.unhandled_debug:
    hlt
    .globl fault.unhandled_breakpoint
fault.unhandled_breakpoint:
    hlt
    .globl fault.unhandled_invalid_opcode
fault.unhandled_invalid_opcode:
    hlt
    .globl fault.unhandled_general_protection
fault.unhandled_general_protection:
    hlt
    .globl fault.unhandled_segment_not_present
fault.unhandled_segment_not_present:
    hlt
    .globl fault.unhandled_page_fault
fault.unhandled_page_fault:
    hlt

    FAULTS fault, RETURN_IRETQ
    FAULTS pv_fault, RETURN_HYPERCALL
    FAULTS bit31_fault, RETURN_BIT31
    FAULTS fred_fault, RETURN_ERETS
    FAULTS safe_fault, RETURN_NMI_SAFE
    REFUSED pv_fault, RETURN_HYPERCALL
    REFUSED bit31_fault, RETURN_BIT31
    .text
"#,
    not_tf = const !RFLAGS_TF,
    port_erets = const abi::PORT_ERETS,
    bit31 = const crate::entry::XEN_EFLAGS_NMI,
    call = const abi::HYPERCALL_STUB_CALL,
    going_cs = const gdt::GOING_CS,
    level_2 = const 2 << abi::FRED_CS_LEVEL_SHIFT,
    in_nmi = const percpu::NMI_NESTING,
    options(att_syntax)
);
