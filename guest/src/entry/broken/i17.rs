//! `broken-i17`: loops for ever after its body (I17).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i17 mode=native arg=SCHEME_BROKEN_I17 entry=broken_i17.entry prefix=broken_i17. "
    "broken=I17 summary=\"never comes back\""
);

scheme!(SCHEME_BROKEN_I17 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i17.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i17.entry
broken_i17.entry:
    NMI_PROLOGUE
broken_i17.body:
    NMI_BODY
broken_i17.exit:
    pause
    jmp broken_i17.exit
"}
