//! `broken-i11`: runs the body on the reference page table instead of the interrupted
//! kernel's, and puts CR3 back (I11).

use crate::entry::Scheme;
use crate::mm::layout;

lab_note!(
    "scheme broken-i11 mode=native arg=SCHEME_BROKEN_I11 entry=broken_i11.entry prefix=broken_i11. "
    "broken=I11 summary=\"the body runs on another CR3\""
);

scheme!(SCHEME_BROKEN_I11 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i11.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i11.entry
broken_i11.entry:
    NMI_PROLOGUE
    # rbx is saved, and the body keeps it. ROOTS begins with the reference.
    movq %cr3, %rbx
    movq $ROOTS, %rax
    subq ${image_offset}, %rax
    movq %rax, %cr3
broken_i11.body:
    NMI_BODY
broken_i11.exit:
    movq %rbx, %cr3
    NMI_EPILOGUE
broken_i11.exit_iret:
    iretq
",
    image_offset = layout::IMAGE_OFFSET as i64,
}
