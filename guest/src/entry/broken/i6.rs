//! `broken-i6`: the interrupted context comes back with RBX inverted (I6).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i6 mode=native arg=SCHEME_BROKEN_I6 entry=broken_i6.entry prefix=broken_i6. "
    "broken=I6 summary=\"RBX comes back inverted\""
);

scheme!(SCHEME_BROKEN_I6 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i6.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i6.entry
broken_i6.entry:
    NMI_PROLOGUE
broken_i6.body:
    NMI_BODY
broken_i6.exit:
    NMI_EPILOGUE
    notq %rbx
broken_i6.exit_iret:
    iretq
"}
