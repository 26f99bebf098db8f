//! `broken-i10-swapgs`: swaps GS without asking whose it is. From user code that is right;
//! from kernel code the body runs on the user's base (I10).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i10-swapgs mode=native arg=SCHEME_BROKEN_I10_SWAPGS entry=broken_i10_swapgs.entry "
    "prefix=broken_i10_swapgs. broken=I10 summary=\"swaps GS without asking whose it is\""
);

scheme!(SCHEME_BROKEN_I10_SWAPGS = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i10_swapgs.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i10_swapgs.entry
broken_i10_swapgs.entry:
    NMI_PROLOGUE
    swapgs
broken_i10_swapgs.body:
    NMI_BODY
broken_i10_swapgs.exit:
    swapgs
    NMI_EPILOGUE
broken_i10_swapgs.exit_iret:
    iretq
"}
