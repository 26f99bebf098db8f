//! `broken-i14`: shows the body an inverted RBX, and restores the right one (I14).

use guest::abi;

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i14 mode=native arg=SCHEME_BROKEN_I14 entry=broken_i14.entry prefix=broken_i14. "
    "broken=I14 summary=\"the body is shown a wrong RBX\""
);

scheme!(SCHEME_BROKEN_I14 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i14.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i14.entry
broken_i14.entry:
    NMI_PROLOGUE
broken_i14.falsify:
    notq 8+{rbx}(%rsp)
broken_i14.body:
    NMI_BODY
broken_i14.exit:
    notq 8+{rbx}(%rsp)
    NMI_EPILOGUE
broken_i14.exit_iret:
    iretq
",
    rbx = core::mem::offset_of!(abi::Regs, rbx),
}
