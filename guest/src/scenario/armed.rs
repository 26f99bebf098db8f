//! `armed`: the interrupted code has a hardware breakpoint armed for some of the time, as code has
//! that is debugged: DR0 holds an address and DR7 enables it. The address is never executed.
//!
//! An NMI's handler that is to run without breakpoints, as Linux's is, clears DR7 for its body and
//! gives back what it found. What a hit does is in `watch` (`db@`).

use core::arch::global_asm;

use super::Scenario;
use crate::arch::cpu;

lab_note!(
    "scenario armed native uses=debug arg=SCENARIO_ARMED "
    "summary=\"a hardware breakpoint is armed in the work, and taken away; the NMI body does nothing\""
);

scenario!(SCENARIO_ARMED = Scenario { body, work, prepare, ..Scenario::PLAIN });

extern "sysv64" fn body() {}

unsafe extern "sysv64" {
    #[link_name = "armed.work"]
    fn armed_work() -> u64;
    #[link_name = "armed.watched"]
    fn armed_watched();
}

fn prepare() {
    // SAFETY: the place is never executed.
    unsafe { cpu::set_breakpoint(armed_watched as *const () as u64) };
}

extern "sysv64" fn work() -> u64 {
    // SAFETY: it keeps what the calling convention says.
    unsafe { armed_work() }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# armed.work() -> rax: what DR7 was while the breakpoint was armed and while it was not. Clobbers
# rcx and RFLAGS.
    .globl armed.work
    .type armed.work, @function
armed.work:
    movl ${armed}, %eax
    movq %rax, %dr7
armed.on:
    movq %dr7, %rax
    movl ${off}, %ecx
    movq %rcx, %dr7
armed.off:
    movq %dr7, %rcx
    shlq $32, %rcx
    addq %rcx, %rax
    ret
    .globl armed.watched
armed.watched:
    ud2
    .size armed.work, . - armed.work
    .text
"#,
    armed = const cpu::DR7_FIRST,
    off = const cpu::DR7_OFF,
    options(att_syntax)
);
