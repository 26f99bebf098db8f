//! `fred`: Intel's FRED, the flag in hardware. An NMI's delivery sets a bit in the
//! frame's SS slot, and ERETS and ERETU unblock NMIs only where the frame they pop has it.
//!
//! **Layout.** From CPL0 stack level 2: T is the top of the NMI stack. The frame is 64
//! bytes at T-64: error word T-64, RIP T-56, CS and stack level T-48, RFLAGS T-40, RSP
//! T-32, SS with the NMI bit T-24, event data T-16, reserved T-8. Registers from T-72
//! down: `abi::Regs` at T-184, CR2 at T-192. From CPL3 stack level 0, as every event has:
//! the same below the top of the kernel's stack, and another entry point.
//!
//! **Idea.** What the return means is in the frame, not in the instruction: a fault's
//! frame has the bit clear, so its return keeps NMIs blocked, and a return that itself
//! faults has unblocked nothing. An event on a stack level that is active already goes
//! on below the interrupted RSP, so that even an unblock from outside overwrites no
//! frame. Delivery from CPL3 and ERETU exchange GS and the stack in one step: there are no
//! gaps around a system call, which is an event like others.
//!
//! **Invariant.** NMIs are blocked from delivery to `exit_erets` or `exit_eretu`, and longer
//! where that faults: then to the ERETS of the fault's handler.
//!
//! **A faulting ERETU.** The fault is made one of user code, as in Linux: its return leads
//! to the user's entry point, with the frame that ERETU would not take and the fault's
//! words in it. That frame's NMI bit moves to the fault's own, or nothing would ever
//! unblock NMIs (`bug-fred-eretu`).
//!
//! **Cost.** 37 instructions besides the body: no word to make up, none to take down.
//!
//! **Known weaknesses.** It trusts every handler to leave the SS slot alone. An unblock
//! from outside (an SMI or #MC whose handler ends with the bit) still re-enters the
//! body.
//!
//! **Played by the VMM.** No KVM this lab runs on gives FRED to its guests, so delivery,
//! ERETS and ERETU (here `out %eax, $PORT_ERETS` and `$PORT_ERETU`) are the VMM's, in mode
//! pv. Faults still come through the IDT; their handlers make the frame into FRED's before
//! they return. CR2 is saved here because of that: with FRED it would be in the #PF's
//! event data, and no NMI could change it.
//!
//! Source: Linux arch/x86/entry/entry_64_fred.S, entry_fred.c, arch/x86/kernel/fred.c,
//! ex_handler_eretu in arch/x86/mm/extable.c and arch/x86/include/asm/fred.h; the SDM for
//! what returns check.

use core::mem::offset_of;

use guest::abi;

use super::Scheme;
use crate::arch::fault::{Handlers, handlers};
use crate::arch::{fred_user, percpu, stacks, vector};
use crate::asm::Handler;
use crate::hyper;

lab_note!(
    "scheme fred ring3 mode=pv arg=SCHEME_FRED entry=fred.entry prefix=fred. faults=np@fred.exit_eretu "
    "summary=\"FRED, played by the VMM: the frame says whether its return unblocks\""
);
lab_note!(
    "scheme bug-fred-eretu ring3 mode=pv arg=SCHEME_BUG_FRED_ERETU entry=fred.entry prefix=fred. "
    "faults=np@fred.exit_eretu gallery=99edc6c2a0f5 "
    "summary=\"a faulting ERETU's NMI bit is lost: NMIs stay blocked\""
);

scheme!(SCHEME_FRED = scheme(eretu_fault));
scheme!(SCHEME_BUG_FRED_ERETU = scheme(bug_eretu_fault));

/// The two differ in what becomes of the NMI bit of a frame that ERETU would not take.
const fn scheme(segment_not_present: Handler) -> Scheme {
    let faults = Handlers { segment_not_present, ..handlers!("fred_fault") };
    Scheme { setup: fred_user::init, ..Scheme::paravirtual(entry, register, faults) }
}

/// A scheme whose events of CPL0 enter at `entry`, which is byte 256 of a page. No user code runs.
pub const fn at_entry(entry: Handler) -> Scheme {
    Scheme::paravirtual(entry, register_entry, handlers!("fred_fault"))
}

/// The stack level of NMIs from CPL0.
const NMI_LEVEL: u64 = 2;
/// `IA32_FRED_STKLVLS`: two bits for each vector.
const LEVELS: u64 = NMI_LEVEL << (2 * vector::NMI);
/// Where a frame's SS slot begins.
const SS: usize = offset_of!(abi::FredFrame, frame) + offset_of!(abi::Frame, ss);
/// The byte of it that has an event's vector.
const VECTOR: usize = SS + 4;
/// The byte that has its type, in the lower four bits.
const TYPE: usize = SS + 6;
const TYPE_NMI: u64 = 2;
const TYPE_HARDWARE_EXCEPTION: u64 = 3;
const TYPE_SYSCALL: u64 = 7;
/// In the upper half of the SS slot: the event came from 64-bit code.
const LONG: u64 = 1 << 25;
/// The upper half of the SS slot of a #NP.
const NOT_PRESENT: u64 = vector::SEGMENT_NOT_PRESENT as u64 | TYPE_HARDWARE_EXCEPTION << 16 | LONG;

fn register(_: Handler) -> i64 {
    // SAFETY: an immutable table, defined below.
    hyper::configure_fred(unsafe { &CONFIG })
}

/// Where the entry is not at its place the hypervisor refuses the configuration.
fn register_entry(entry: Handler) -> i64 {
    const OF_CPL0: u64 = 256;
    let (_, nmi_stack) = stacks::nmi_stack();
    let page = (entry as *const () as u64).wrapping_sub(OF_CPL0);
    hyper::configure_fred(&abi::FredConfig { config: page, levels: LEVELS, rsp: [stacks::entry_sp(), 0, nmi_stack, 0] })
}

unsafe extern "C" {
    #[link_name = "fred.config"]
    static CONFIG: abi::FredConfig;
    #[link_name = "fred.entry"]
    fn entry();
    #[link_name = "fred.eretu_fault"]
    fn eretu_fault();
    #[link_name = "fred.bug_eretu_fault"]
    fn bug_eretu_fault();
}

entry_asm! {r#"
# abi::FredConfig: the entry page, NMIs on stack level 2, the stacks of levels 0 and 2.
    .section .rodata, "a", @progbits
    .balign 8
fred.config:
    .quad fred.user_entry, {levels}, main_stack_high - {boot_stack}, 0, nmi_stack_high, 0

    .section .text.entry.fred, "ax", @progbits
    .balign 4096, 0xf4
# Events of CPL3. RSP → abi::FredFrame at the top of the kernel's stack. All registers are
# the user's; RFLAGS are clear. GS is the kernel's, by hardware.
    .globl fred.user_entry
fred.user_entry:
    cmpb ${type_nmi}, {type_at}(%rsp)
    jne fred.user_other
    PUSH_REGS
    SAVE_CR2

# RSP → CR2, abi::Regs, as below.
fred.user_body:
    leaq 8(%rsp), %rdi
    call nmi_body
fred.user_exit:
    RESTORE_CR2
    POP_REGS

# RSP → abi::FredFrame; registers as the user had them. Does not return. Where the frame
# is refused, #NP at this instruction, and all is as it was.
    .globl fred.exit_eretu
fred.exit_eretu:
    outl %eax, ${port_eretu}

# Clobbers RFLAGS, as all that follows.
fred.user_other:
    cmpb ${type_syscall}, {type_at}(%rsp)
    je fred.syscall

# A fault of ERETU that was made one of user code: RSP → its frame. Brings back the one
# segment that comes and goes.
fred.user_fault:
    cmpb ${not_present_vector}, {vector_at}(%rsp)
    jne fault.unhandled_segment_not_present
    cmpq ${going_error}, (%rsp)
    jne fault.unhandled_segment_not_present
    BRING_SEGMENT
    jmp fred.exit_eretu

# A system call. In: rax = number, rdi = argument. Out: rax = result.
fred.syscall:
    testl %eax, %eax
    jz fred.syscall_leave
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    call sys_mix
fred.syscall_exit:
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    jmp fred.exit_eretu
fred.syscall_leave:
    movq %rdi, %rax
    movq %gs:{user_return}, %rsp
    jmp user.left
    .org fred.user_entry + 256, 0xf4

# RSP → abi::FredFrame. All registers are the interrupted context's; RFLAGS are
# clear. The error word is in place for abi::Regs. GS is the kernel's, by hardware.
    .globl fred.entry
fred.entry:
    PUSH_REGS
    SAVE_CR2

# RSP = T-192 → CR2, abi::Regs. The body may fault; those frames have the bit clear.
fred.body:
    leaq 8(%rsp), %rdi
    call nmi_body
fred.exit:
    RESTORE_CR2
    POP_REGS

# RSP → abi::FredFrame; registers as interrupted. Does not return.
fred.exit_erets:
    outl %eax, ${port_erets}

# ERETU_FAULT label, moves: the handler of #NP, whose gate has the interrupted stack.
# RSP → error code, frame: RIP is fred.exit_eretu, RSP → the abi::FredFrame that it would
# not take. Makes that the frame of a #NP in user code, and returns to fred.user_entry
# with it. moves=1: the frame's NMI bit goes to this fault's own frame, whose ERETS then
# unblocks; moves=0: it is lost. Clobbers only RFLAGS.
.macro ERETU_FAULT label, moves
    .globl \label
\label:
    cmpq $fred.exit_eretu, 8(%rsp)
    jne fault.unhandled_segment_not_present
    pushq %rax
    pushq %rcx
    movq 48(%rsp), %rax
    .if \moves
    movl 40(%rax), %ecx
    andl ${nmi_bit}, %ecx
    orl %ecx, 56(%rsp)
    .endif
    movzwl 40(%rax), %ecx
    movl %ecx, 40(%rax)
    movl ${not_present}, 44(%rax)
    movq 16(%rsp), %rcx
    movq %rcx, (%rax)
    movq $fred.user_entry, 24(%rsp)
    popq %rcx
    popq %rax
    # RSP → error code, frame: an abi::FredFrame as far as ERETS reads it. Level 0.
\label\()_erets:
    outl %eax, ${port_erets}
.endm
    ERETU_FAULT fred.eretu_fault, 1
    ERETU_FAULT fred.bug_eretu_fault, 0

# RETURN_ERETS: a fault's return (faults.s). Makes the IDT's frame what FRED would have
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
    FAULTS fred_fault, RETURN_ERETS
"#,
    levels = LEVELS,
    boot_stack = stacks::BOOT_STACK,
    user_return = percpu::USER_RETURN,
    type_at = TYPE,
    vector_at = VECTOR,
    type_nmi = TYPE_NMI,
    type_syscall = TYPE_SYSCALL,
    not_present = NOT_PRESENT,
    not_present_vector = vector::SEGMENT_NOT_PRESENT,
    level_2 = NMI_LEVEL << abi::FRED_CS_LEVEL_SHIFT,
    nmi_bit = abi::FRED_SS_NMI,
    port_erets = abi::PORT_ERETS,
    port_eretu = abi::PORT_ERETU,
}
