//! `broken-i7`: writes one byte outside all declared scratch memory (I7).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i7 mode=native arg=SCHEME_BROKEN_I7 entry=broken_i7.entry prefix=broken_i7. "
    "broken=I7 summary=\"writes a byte of memory that is not its own\""
);

scheme!(SCHEME_BROKEN_I7 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i7.entry"]
    fn entry();
}

entry_asm! {r#"
    .section .bss.broken_i7, "aw", @nobits
broken_i7.victim:
    .skip 8
    .section .text.entry, "ax", @progbits

# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i7.entry
broken_i7.entry:
    NMI_PROLOGUE
broken_i7.body:
    NMI_BODY
broken_i7.exit:
    movb $1, broken_i7.victim(%rip)
    NMI_EPILOGUE
broken_i7.exit_iret:
    iretq
"#}
