//! Five whose body begins with what no body expects (I21), each in its own way.
//!
//! - `broken-i21`: does not clear DF, so that it shows only where the interrupted code has set
//!   it.
//! - `broken-i21-nt`, `broken-i21-if`, `broken-i21-ac`: set that flag. AC means nothing to a
//!   kernel without SMAP, so this one declares that its body relies on it.
//! - `broken-i21-rsp`: calls the body with a stack that is not aligned.
//!
//! None sets TF: it would trap before the body begins, which is I18's.

use crate::arch::rflags;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i21 mode=native arg=SCHEME_BROKEN_I21 entry=broken_i21.entry prefix=broken_i21. "
    "broken=I21 summary=\"the body runs with the interrupted DF\""
);
lab_note!(
    "scheme broken-i21-nt mode=native arg=SCHEME_BROKEN_I21_NT entry=broken_i21_nt.entry prefix=broken_i21_nt. "
    "broken=I21 summary=\"the body runs with NT set\""
);
lab_note!(
    "scheme broken-i21-if mode=native arg=SCHEME_BROKEN_I21_IF entry=broken_i21_if.entry prefix=broken_i21_if. "
    "broken=I21 summary=\"the body runs with IF set\""
);
lab_note!(
    "scheme broken-i21-ac mode=native arg=SCHEME_BROKEN_I21_AC entry=broken_i21_ac.entry prefix=broken_i21_ac. "
    "relies=ac broken=I21 summary=\"the body runs with AC set, and relies on its being clear\""
);
lab_note!(
    "scheme broken-i21-rsp mode=native arg=SCHEME_BROKEN_I21_RSP entry=broken_i21_rsp.entry prefix=broken_i21_rsp. "
    "broken=I21 summary=\"the body runs on a stack that is not aligned\""
);

scheme!(SCHEME_BROKEN_I21 = Scheme::native(entry));
scheme!(SCHEME_BROKEN_I21_NT = Scheme::native(nt_entry));
scheme!(SCHEME_BROKEN_I21_IF = Scheme::native(if_entry));
scheme!(SCHEME_BROKEN_I21_AC = Scheme::native(ac_entry));
scheme!(SCHEME_BROKEN_I21_RSP = Scheme::native(rsp_entry));

unsafe extern "C" {
    #[link_name = "broken_i21.entry"]
    fn entry();
    #[link_name = "broken_i21_nt.entry"]
    fn nt_entry();
    #[link_name = "broken_i21_if.entry"]
    fn if_entry();
    #[link_name = "broken_i21_ac.entry"]
    fn ac_entry();
    #[link_name = "broken_i21_rsp.entry"]
    fn rsp_entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's. As NMI_PROLOGUE,
# but for its cld.
    .globl broken_i21.entry
broken_i21.entry:
    pushq $-1
    PUSH_REGS
    SAVE_CR2
broken_i21.body:
    NMI_BODY
broken_i21.exit:
    NMI_EPILOGUE
broken_i21.exit_iret:
    iretq

# BEGINS_WITH p, bit: the plain handler p, which sets a bit of RFLAGS before its body. At entry
# as above.
.macro BEGINS_WITH p, bit
    .globl \p\().entry
\p\().entry:
    NMI_PROLOGUE
    pushfq
    orl $\bit, (%rsp)
    popfq
\p\().body:
    NMI_BODY
\p\().exit:
    NMI_EPILOGUE
\p\().exit_iret:
    iretq
.endm

    BEGINS_WITH broken_i21_nt, {nt}
    BEGINS_WITH broken_i21_if, {if_flag}
    BEGINS_WITH broken_i21_ac, {ac}

# The same, on a stack that is 8 above a multiple of 16.
    .globl broken_i21_rsp.entry
broken_i21_rsp.entry:
    NMI_PROLOGUE
    subq $8, %rsp
broken_i21_rsp.body:
    leaq 16(%rsp), %rdi
    call nmi_body
broken_i21_rsp.exit:
    addq $8, %rsp
    NMI_EPILOGUE
broken_i21_rsp.exit_iret:
    iretq
",
    nt = rflags::NT,
    if_flag = rflags::IF,
    ac = rflags::AC,
}
