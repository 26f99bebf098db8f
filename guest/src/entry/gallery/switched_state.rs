//! What a handler of NMIs must switch besides GS and CR3, wherever it came: breakpoints, a
//! model-specific register as IA32_SPEC_CTRL, and vector registers.
//!
//! - `twin-dr7`: the body runs without breakpoints, and DR7 is given back, as in Linux's
//!   `local_db_save`. `bug-dr7-kept`: it does not switch them off. `bug-dr7-lost`: off they stay.
//! - `twin-spec-ctrl`: the body runs with the kernel's value, and what was found is given back, as
//!   in Linux's `IBRS_ENTER save_reg=`. `bug-spec-ctrl-cs`: only where it came from user code.
//!   `bug-spec-ctrl-lost`: the kernel's value stays.
//! - `twin-fpu`: a handler that uses a vector register by the kernel's save area, unless that is in
//!   use. `bug-fpu-area`: even then. `bug-fpu-lost`: it saves nothing.
//!
//! The rest is `twin-rostedt`.

use guest::abi;

use crate::arch::cpu;
use crate::entry::{Scheme, nmi_body};

/// A scheme whose labels begin with `$p`; `$arg` and `$text` are the name of its descriptor.
macro_rules! switched {
    ($name:literal, $p:literal, $arg:ident = $text:literal, $more:literal) => {
        lab_note!(
            "scheme " $name " mode=native arg=" $text " entry=" $p ".entry prefix=" $p ". repeat=" $p ".repeat "
            "idle=nmi_stack_low+0xfc8:8 " $more
        );
        scheme!($arg = Scheme::native(handler!(concat!($p, ".entry"))));
    };
}

switched!(
    "twin-dr7",
    "twin_dr7",
    SCHEME_TWIN_DR7 = "SCHEME_TWIN_DR7",
    "uses=debug relies=dr7 gallery=repaired summary=\"the body runs without breakpoints, and DR7 is given back\""
);
switched!(
    "bug-dr7-kept",
    "bug_dr7_kept",
    SCHEME_BUG_DR7_KEPT = "SCHEME_BUG_DR7_KEPT",
    "uses=debug relies=dr7 gallery=fd338e3564b0 summary=\"the body runs with the interrupted code's breakpoints\""
);
switched!(
    "bug-dr7-lost",
    "bug_dr7_lost",
    SCHEME_BUG_DR7_LOST = "SCHEME_BUG_DR7_LOST",
    "uses=debug relies=dr7 gallery=fd338e3564b0 summary=\"breakpoints are off after an NMI\""
);
switched!(
    "twin-spec-ctrl",
    "twin_spec_ctrl",
    SCHEME_TWIN_SPEC_CTRL = "SCHEME_TWIN_SPEC_CTRL",
    "body_msr=0x175:1 gallery=repaired summary=\"the body runs with the kernel's value of an MSR; what was found is given back\""
);
switched!(
    "bug-spec-ctrl-cs",
    "bug_spec_ctrl_cs",
    SCHEME_BUG_SPEC_CTRL_CS = "SCHEME_BUG_SPEC_CTRL_CS",
    "body_msr=0x175:1 gallery=2dbb887e875b summary=\"the kernel's value of an MSR where CS is the user's only\""
);
switched!(
    "bug-spec-ctrl-lost",
    "bug_spec_ctrl_lost",
    SCHEME_BUG_SPEC_CTRL_LOST = "SCHEME_BUG_SPEC_CTRL_LOST",
    "body_msr=0x175:1 gallery=2dbb887e875b summary=\"the kernel's value of an MSR stays after an NMI\""
);
switched!(
    "twin-fpu",
    "twin_fpu",
    SCHEME_TWIN_FPU = "SCHEME_TWIN_FPU",
    "uses=vector gallery=repaired summary=\"uses a vector register, unless the kernel's save area is in use\""
);
switched!(
    "bug-fpu-area",
    "bug_fpu_area",
    SCHEME_BUG_FPU_AREA = "SCHEME_BUG_FPU_AREA",
    "uses=vector gallery=59f5ede3bc0f summary=\"uses a vector register by a save area that is in use\""
);
switched!(
    "bug-fpu-lost",
    "bug_fpu_lost",
    SCHEME_BUG_FPU_LOST = "SCHEME_BUG_FPU_LOST",
    "uses=vector gallery=59f5ede3bc0f summary=\"uses a vector register and saves nothing\""
);
// Whoever uses it afterwards saves there first.
lab_note!("scratch low=FPU_AREA high=FPU_AREA+0x10 scheme=twin-fpu");
lab_note!("scratch low=FPU_AREA high=FPU_AREA+0x10 scheme=bug-fpu-area");

#[unsafe(no_mangle)]
extern "sysv64" fn twin_dr7_body(regs: *const abi::Regs) {
    without_breakpoints::<true>(regs);
}

#[unsafe(no_mangle)]
extern "sysv64" fn bug_dr7_lost_body(regs: *const abi::Regs) {
    without_breakpoints::<false>(regs);
}

#[inline(always)]
fn without_breakpoints<const GIVES_BACK: bool>(regs: *const abi::Regs) {
    let found = cpu::dr7();
    // SAFETY: without breakpoints nothing traps; and what was found was in force before.
    unsafe { cpu::set_dr7(cpu::DR7_OFF) };
    nmi_body(regs);
    if GIVES_BACK {
        // SAFETY: as above.
        unsafe { cpu::set_dr7(found) };
    }
}

#[unsafe(no_mangle)]
extern "sysv64" fn twin_spec_ctrl_body(regs: *const abi::Regs) {
    with_kernels_value::<false, true>(regs);
}

#[unsafe(no_mangle)]
extern "sysv64" fn bug_spec_ctrl_cs_body(regs: *const abi::Regs) {
    with_kernels_value::<true, true>(regs);
}

#[unsafe(no_mangle)]
extern "sysv64" fn bug_spec_ctrl_lost_body(regs: *const abi::Regs) {
    with_kernels_value::<false, false>(regs);
}

#[inline(always)]
fn with_kernels_value<const BY_CS: bool, const GIVES_BACK: bool>(regs: *const abi::Regs) {
    // SAFETY: the entry passes what it has saved.
    let from_user = unsafe { (*regs).frame.cs } & 3 != 0;
    let found = cpu::read_msr(cpu::SPEC_CTRL);
    if !BY_CS || from_user {
        // SAFETY: no SYSENTER is executed.
        unsafe { cpu::write_msr(cpu::SPEC_CTRL, cpu::SPEC_CTRL_KERNEL) };
    }
    nmi_body(regs);
    if GIVES_BACK {
        // SAFETY: as above.
        unsafe { cpu::write_msr(cpu::SPEC_CTRL, found) };
    }
}

entry_asm! {r"
# A handler's C code that uses XMM0. rdi: regs, as for nmi_body. Keeps XMM0, by the kernel's save
# area where that is free.
    .globl twin_fpu_body
twin_fpu_body:
    cmpq $0, FPU_BUSY(%rip)
    jne nmi_body
# The same, without a look at whether it is free.
    .globl bug_fpu_area_body
bug_fpu_area_body:
    movdqu %xmm0, FPU_AREA(%rip)
    movdqu fpu.nmi(%rip), %xmm0
    subq $8, %rsp
    call nmi_body
    addq $8, %rsp
    movdqu FPU_AREA(%rip), %xmm0
    ret
# XMM0 is lost.
    .globl bug_fpu_lost_body
bug_fpu_lost_body:
    movdqu fpu.nmi(%rip), %xmm0
    jmp nmi_body
"}
