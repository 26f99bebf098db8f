//! `broken-i8`: the final iretq consumes a forged frame, which leads to a jump to
//! where the NMI came from. The context comes back right, one instruction late,
//! but through a frame that nobody delivered or declared (I8).

use crate::arch::percpu;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i8 mode=native arg=SCHEME_BROKEN_I8 entry=broken_i8.entry prefix=broken_i8. "
    "broken=I8 summary=\"returns through a frame of its own making\""
);
lab_note!("scratch low=PERCPU+0x10 high=PERCPU+0x18 scheme=broken-i8");

scheme!(SCHEME_BROKEN_I8 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i8.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i8.entry
broken_i8.entry:
    NMI_PROLOGUE
broken_i8.body:
    NMI_BODY
broken_i8.exit:
    NMI_EPILOGUE

# RSP = T-40 → hardware frame. Its RIP goes to the per-CPU word.
broken_i8.forge:
    pushq (%rsp)
    popq %gs:{scratch}
    movq $broken_i8.trampoline, (%rsp)
broken_i8.exit_iret:
    iretq

# The interrupted context but for RIP.
broken_i8.trampoline:
    jmp *%gs:{scratch}
",
    scratch = percpu::NMI_SCRATCH,
}
