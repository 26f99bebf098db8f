//! `broken-i18`: executes an invalid instruction in its exit code (I18).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i18 mode=native arg=SCHEME_BROKEN_I18 entry=broken_i18.entry prefix=broken_i18. "
    "broken=I18 summary=\"faults on its way out\""
);

scheme!(SCHEME_BROKEN_I18 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i18.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i18.entry
broken_i18.entry:
    NMI_PROLOGUE
broken_i18.body:
    NMI_BODY
broken_i18.exit:
    NMI_EPILOGUE
broken_i18.exit_fault:
    ud2
broken_i18.exit_iret:
    iretq
"}
