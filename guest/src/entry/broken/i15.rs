//! Two that get privilege wrong (I15), each in its own way; both look at user code only,
//! so they pass where there is none.
//!
//! - `broken-i15`: takes every NMI from user code for a nested one, and returns.
//! - `broken-i15-cpl0`: "repairs" the CS of a frame from user code to the kernel's: user code
//!   goes on at CPL0.

use crate::arch::gdt;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i15 mode=native arg=SCHEME_BROKEN_I15 entry=broken_i15.entry prefix=broken_i15. "
    "broken=I15 summary=\"takes an NMI from user code for a nested one\""
);
lab_note!(
    "scheme broken-i15-cpl0 mode=native arg=SCHEME_BROKEN_I15_CPL0 entry=broken_i15_cpl0.entry "
    "prefix=broken_i15_cpl0. broken=I15 summary=\"returns to user code at CPL0\""
);

scheme!(SCHEME_BROKEN_I15 = Scheme::native(entry));
scheme!(SCHEME_BROKEN_I15_CPL0 = Scheme::native(cpl0_entry));

unsafe extern "C" {
    #[link_name = "broken_i15.entry"]
    fn entry();
    #[link_name = "broken_i15_cpl0.entry"]
    fn cpl0_entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i15.entry
broken_i15.entry:
    TEST_USER 8
    jnz broken_i15.exit_iret
    NMI_PROLOGUE
    ENTER_KERNEL_GS
broken_i15.body:
    NMI_BODY
broken_i15.exit:
    LEAVE_KERNEL_GS
    NMI_EPILOGUE
broken_i15.exit_iret:
    iretq

# The same.
    .globl broken_i15_cpl0.entry
broken_i15_cpl0.entry:
    NMI_PROLOGUE
    ENTER_KERNEL_GS
broken_i15_cpl0.body:
    NMI_BODY
broken_i15_cpl0.exit:
    LEAVE_KERNEL_GS
    NMI_EPILOGUE
    TEST_USER 8
    jz broken_i15_cpl0.exit_iret
    movq ${kernel_cs}, 8(%rsp)
    movq ${kernel_ds}, 32(%rsp)
broken_i15_cpl0.exit_iret:
    iretq
",
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
}
