//! `broken-i16`: leaves the interrupted code deferred work, which takes a #GP there
//! that a run without NMIs does not take (I16). The handler repairs it.

use crate::arch::percpu;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i16 mode=native arg=SCHEME_BROKEN_I16 entry=broken_i16.entry prefix=broken_i16. "
    "broken=I16 summary=\"makes the interrupted code take a #GP\""
);
lab_note!("scratch low=PERCPU+0x18 high=PERCPU+0x20 scheme=broken-i16");

scheme!(SCHEME_BROKEN_I16 = Scheme { general_protection: Some(general_protection), ..Scheme::native(entry) });

unsafe extern "C" {
    #[link_name = "broken_i16.entry"]
    fn entry();
    #[link_name = "broken_i16.gp"]
    fn general_protection();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i16.entry
broken_i16.entry:
    NMI_PROLOGUE
broken_i16.body:
    NMI_BODY
broken_i16.defer:
    movq $broken_i16.deferred, %gs:{deferred}
broken_i16.exit:
    NMI_EPILOGUE
broken_i16.exit_iret:
    iretq

# Called by the interrupted code some time later. Clobbers rax, RFLAGS.
broken_i16.deferred:
    movabsq $0x8000000000000000, %rax
broken_i16.faulting:
    movb (%rax), %al
broken_i16.after:
    ret

# #GP. RSP → error code, frame. Skips the instruction above, and only that.
    .globl broken_i16.gp
broken_i16.gp:
    cmpq $broken_i16.faulting, 8(%rsp)
    jne fault.unhandled_general_protection
    addq $8, %rsp
    movq $broken_i16.after, (%rsp)
    iretq
",
    deferred = percpu::DEFERRED,
}
