//! `fred`: Intel's FRED, the flag in hardware. An NMI's delivery sets a bit in the
//! frame's SS slot, and ERETS unblocks NMIs only where the frame it pops has it.
//!
//! **Layout.** Stack level 2: T is the top of the NMI stack. The frame is 64 bytes at
//! T-64: error word T-64, RIP T-56, CS and stack level T-48, RFLAGS T-40, RSP T-32, SS
//! with the NMI bit T-24, event data T-16, reserved T-8. Registers from T-72 down:
//! `abi::Regs` at T-184, CR2 at T-192.
//!
//! **Idea.** What the return means is in the frame, not in the instruction: a fault's
//! frame has the bit clear, so its return keeps NMIs blocked, and an ERETS that itself
//! faults has unblocked nothing. An event on a stack level that is active already goes
//! on below the interrupted RSP, so that even an unblock from outside overwrites no
//! frame.
//!
//! **Invariant.** NMIs are blocked from delivery to `exit_erets`.
//!
//! **Cost.** 37 instructions besides the body: no word to make up, none to take down.
//!
//! **Known weaknesses.** It trusts every handler to leave the SS slot alone. An unblock
//! from outside (an SMI or #MC whose handler ends with the bit) still re-enters the
//! body.
//!
//! **Played by the VMM.** No KVM this lab runs on gives FRED to its guests, so delivery
//! and ERETS (here `out %eax, $PORT_ERETS`) are the VMM's, in mode pv. Faults still come
//! through the IDT; their handlers make the frame into FRED's before they return. CR2
//! is saved here because of that: with FRED it would be in the #PF's event data, and no
//! NMI could change it.
//!
//! Source: Linux arch/x86/entry/entry_64_fred.S and arch/x86/include/asm/fred.h; Intel's
//! FRED specification for levels and the return's checks, from memory.

use guest::abi;

use super::Scheme;
use crate::arch::fault::{self, Handler};
use crate::hyper;

lab_note!(
    "scheme fred mode=pv arg=SCHEME_FRED entry=fred.entry prefix=fred. "
    "summary=\"FRED, played by the VMM: the frame says whether its return unblocks\""
);

scheme!(SCHEME_FRED = Scheme::paravirtual(entry, register, fault::FRED));

/// Vector 2 on stack level 2.
const LEVELS: u64 = 2 << (2 * 2);

fn register(_: Handler) -> i64 {
    // SAFETY: an immutable table, defined below.
    hyper::configure_fred(unsafe { &CONFIG })
}

unsafe extern "C" {
    #[link_name = "fred.config"]
    static CONFIG: abi::FredConfig;
    #[link_name = "fred.entry"]
    fn entry();
}

scheme_asm! {r#"
# abi::FredConfig: the entry page, vector 2 on stack level 2, that level's stack.
    .section .rodata, "a", @progbits
    .balign 8
fred.config:
    .quad fred.user_entry, {levels}, 0, 0, nmi_stack_high, 0

    .section .text.entry.fred, "ax", @progbits
    .balign 4096, 0xf4
# Events of CPL3 enter here; the lab's NMIs come from CPL0.
    .globl fred.user_entry
fred.user_entry:
    hlt
    .balign 256, 0xf4

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
"#,
    levels = LEVELS,
    port_erets = abi::PORT_ERETS,
}
