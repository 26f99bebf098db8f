//! `broken-i4`: runs the body twice, one after the other, for each NMI (I4).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i4 mode=native arg=SCHEME_BROKEN_I4 entry=broken_i4.entry prefix=broken_i4. "
    "broken=I4 summary=\"the body runs twice\""
);

scheme!(SCHEME_BROKEN_I4 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i4.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i4.entry
broken_i4.entry:
    NMI_PROLOGUE
broken_i4.body:
    NMI_BODY
broken_i4.second_body:
    NMI_BODY
broken_i4.exit:
    NMI_EPILOGUE
broken_i4.exit_iret:
    iretq
"}
