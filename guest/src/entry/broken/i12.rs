//! `broken-i12`: sets a flag that it declares to be idle between NMIs, and never
//! clears it (I12).

use crate::arch::percpu;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i12 mode=native arg=SCHEME_BROKEN_I12 entry=broken_i12.entry prefix=broken_i12. "
    "broken=I12 idle=PERCPU+0x10:8 summary=\"leaves its flag set\""
);
lab_note!("scratch low=PERCPU+0x10 high=PERCPU+0x18 scheme=broken-i12");

scheme!(SCHEME_BROKEN_I12 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i12.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i12.entry
broken_i12.entry:
    NMI_PROLOGUE
broken_i12.set_flag:
    movq $1, %gs:{flag}
broken_i12.body:
    NMI_BODY
broken_i12.exit:
    NMI_EPILOGUE
broken_i12.exit_iret:
    iretq
",
    flag = percpu::NMI_SCRATCH,
}
