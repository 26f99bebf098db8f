//! `broken-i13`: leaves the interrupted code deferred work, which sets the flag that
//! says an NMI is live, long after it is over (I13).

use crate::arch::percpu;
use crate::entry::Scheme;

lab_note!(
    "scheme broken-i13 mode=native arg=SCHEME_BROKEN_I13 entry=broken_i13.entry prefix=broken_i13. "
    "broken=I13 idle=PERCPU+0x10:8 summary=\"its flag is set with no NMI live\""
);
lab_note!("scratch low=PERCPU+0x10 high=PERCPU+0x20 scheme=broken-i13");

scheme!(SCHEME_BROKEN_I13 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i13.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i13.entry
broken_i13.entry:
    NMI_PROLOGUE
broken_i13.body:
    NMI_BODY
broken_i13.defer:
    movq $broken_i13.deferred, %gs:{deferred}
broken_i13.exit:
    NMI_EPILOGUE
broken_i13.exit_iret:
    iretq

# Called by the interrupted code some time later. Clobbers RFLAGS.
broken_i13.deferred:
    movq $1, %gs:{flag}
    ret
",
    deferred = percpu::DEFERRED,
    flag = percpu::NMI_SCRATCH,
}
