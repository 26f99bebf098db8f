//! `broken-i6-…`: RBX comes back inverted, but only from some contexts: where a value of
//! the interrupted context, which the handler has no business to look at, says so (I6).
//! A search that merges contexts must keep these apart. Each looks at another value:
//!
//! - `broken-i6-register`: at RDI's saved value;
//! - `broken-i6-carry`: at CF, which an NMI's delivery leaves as it was;
//! - `broken-i6-flags`: at ZF in the frame;
//! - `broken-i6-rip`: at RIP in the frame;
//! - `broken-i6-rsp`: at bit 5 of RSP in the frame;
//! - `broken-i6-depth`: at the same bit of its own RSP, without an IST;
//! - `broken-i6-stack`: at the word that the interrupted RSP points to.

use core::mem::offset_of;

use guest::abi;

use crate::arch::rflags;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i6-register mode=native arg=SCHEME_BROKEN_I6_REGISTER entry=broken_i6_register.entry "
    "prefix=broken_i6_register. broken=I6 summary=\"RBX comes back inverted where RDI is odd\""
);
lab_note!(
    "scheme broken-i6-carry mode=native arg=SCHEME_BROKEN_I6_CARRY entry=broken_i6_carry.entry "
    "prefix=broken_i6_carry. broken=I6 summary=\"RBX comes back inverted where CF is set\""
);
lab_note!(
    "scheme broken-i6-flags mode=native arg=SCHEME_BROKEN_I6_FLAGS entry=broken_i6_flags.entry "
    "prefix=broken_i6_flags. broken=I6 summary=\"RBX comes back inverted where ZF is set in the frame\""
);
lab_note!(
    "scheme broken-i6-rip mode=native arg=SCHEME_BROKEN_I6_RIP entry=broken_i6_rip.entry "
    "prefix=broken_i6_rip. broken=I6 summary=\"RBX comes back inverted to one place\""
);
lab_note!(
    "scheme broken-i6-rsp mode=native arg=SCHEME_BROKEN_I6_RSP entry=broken_i6_rsp.entry "
    "prefix=broken_i6_rsp. broken=I6 summary=\"RBX comes back inverted where the frame's RSP has bit 5 set\""
);
lab_note!(
    "scheme broken-i6-depth mode=native arg=SCHEME_BROKEN_I6_DEPTH entry=broken_i6_depth.entry "
    "prefix=broken_i6_depth. broken=I6 summary=\"without an IST, RBX comes back inverted where RSP has bit 5 set\""
);
lab_note!(
    "scheme broken-i6-stack mode=native arg=SCHEME_BROKEN_I6_STACK entry=broken_i6_stack.entry "
    "prefix=broken_i6_stack. broken=I6 summary=\"RBX comes back inverted where the interrupted stack's word is even\""
);

scheme!(SCHEME_BROKEN_I6_REGISTER = Scheme::native(register));
scheme!(SCHEME_BROKEN_I6_CARRY = Scheme::native(carry));
scheme!(SCHEME_BROKEN_I6_FLAGS = Scheme::native(flags));
scheme!(SCHEME_BROKEN_I6_RIP = Scheme::native(rip));
scheme!(SCHEME_BROKEN_I6_RSP = Scheme::native(rsp));
scheme!(SCHEME_BROKEN_I6_DEPTH = Scheme { ist: 0, ..Scheme::native(depth) });
scheme!(SCHEME_BROKEN_I6_STACK = Scheme::native(stack));

unsafe extern "C" {
    #[link_name = "broken_i6_register.entry"]
    fn register();
    #[link_name = "broken_i6_carry.entry"]
    fn carry();
    #[link_name = "broken_i6_flags.entry"]
    fn flags();
    #[link_name = "broken_i6_rip.entry"]
    fn rip();
    #[link_name = "broken_i6_rsp.entry"]
    fn rsp();
    #[link_name = "broken_i6_depth.entry"]
    fn depth();
    #[link_name = "broken_i6_stack.entry"]
    fn stack();
}

entry_asm! {r"
# LOOKING p: a handler that saves everything, and then p_looks, which ends in the flag
# that `unless` wants where RBX is to come back as it was.
# In: RSP → hardware frame. All registers are the interrupted context's.
.macro LOOKING p, unless
    .globl \p\().entry
\p\().entry:
    NMI_PROLOGUE
\p\().body:
    NMI_BODY
\p\().looks:
    \p\()_looks
    \unless \p\().exit
    notq {rbx}(%rsp)
\p\().exit:
    NMI_EPILOGUE
\p\().exit_iret:
    iretq
.endm

# RSP → CR2, abi::Regs. Each may clobber rax, which is saved.
.macro broken_i6_register_looks
    testq $1, {rdi}(%rsp)
.endm
.macro broken_i6_flags_looks
    testl ${zf}, {frame} + 16(%rsp)
.endm
.macro broken_i6_rip_looks
    cmpq $work.fold, {frame}(%rsp)
.endm
.macro broken_i6_rsp_looks
    testl ${bit_5}, {frame} + 24(%rsp)
.endm
.macro broken_i6_depth_looks
    movq %rsp, %rax
    testl ${bit_5}, %eax
.endm
.macro broken_i6_stack_looks
    movq {frame} + 24(%rsp), %rax
    movq (%rax), %rax
    xorq $1, %rax
    testq $1, %rax
.endm

    LOOKING broken_i6_register, jz
    LOOKING broken_i6_flags, jz
    LOOKING broken_i6_rip, jne
    LOOKING broken_i6_rsp, jz
    LOOKING broken_i6_depth, jz
    LOOKING broken_i6_stack, jz

# As these, but it looks before it has saved anything.
    .globl broken_i6_carry.entry
broken_i6_carry.entry:
    jnc broken_i6_carry.clear
    NMI_PROLOGUE
broken_i6_carry.body:
    NMI_BODY
    notq {rbx}(%rsp)
    jmp broken_i6_carry.exit
broken_i6_carry.clear:
    NMI_PROLOGUE
    NMI_BODY
broken_i6_carry.exit:
    NMI_EPILOGUE
broken_i6_carry.exit_iret:
    iretq
",
    // Above the word of CR2.
    rbx = 8 + offset_of!(abi::Regs, rbx),
    rdi = 8 + offset_of!(abi::Regs, rdi),
    frame = 8 + offset_of!(abi::Regs, frame),
    zf = rflags::ZF,
    bit_5 = 1 << 5,
}
