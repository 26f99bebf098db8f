//! `broken-i10`: swaps GS without asking whose it is, so that the body runs on the
//! user's base (I10).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i10 mode=native arg=SCHEME_BROKEN_I10 entry=broken_i10.entry prefix=broken_i10. "
    "broken=I10 summary=\"the body runs on the user's GS base\""
);

scheme!(SCHEME_BROKEN_I10 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i10.entry"]
    fn entry();
}

scheme_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i10.entry
broken_i10.entry:
    NMI_PROLOGUE
    swapgs
broken_i10.body:
    NMI_BODY
broken_i10.exit:
    swapgs
    NMI_EPILOGUE
broken_i10.exit_iret:
    iretq
"}
