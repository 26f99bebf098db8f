//! `broken-i3`: returns at once, without a body, from an NMI that interrupted an
//! instruction at an odd address. Such an NMI is never served (I3).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i3 mode=native arg=SCHEME_BROKEN_I3 entry=broken_i3.entry prefix=broken_i3. "
    "broken=I3 summary=\"an NMI at an odd address gets no body\""
);

scheme!(SCHEME_BROKEN_I3 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i3.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i3.entry
broken_i3.entry:
    testb $1, (%rsp)
    jnz broken_i3.exit_iret
    NMI_PROLOGUE
broken_i3.body:
    NMI_BODY
broken_i3.exit:
    NMI_EPILOGUE
broken_i3.exit_iret:
    iretq
"}
