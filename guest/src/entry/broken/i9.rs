//! `broken-i9`: runs the body with RSP in memory that is scratch, but no declared
//! stack (I9).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i9 mode=native arg=SCHEME_BROKEN_I9 entry=broken_i9.entry prefix=broken_i9. "
    "broken=I9 summary=\"the body runs on memory that is no stack\""
);
lab_note!("scratch low=broken_i9.area high=broken_i9.area_end scheme=broken-i9");

scheme!(SCHEME_BROKEN_I9 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i9.entry"]
    fn entry();
}

entry_asm! {r#"
    .section .bss.broken_i9, "aw", @nobits
    .balign 16
broken_i9.area:
    .skip 512
broken_i9.area_end:
    .section .text.entry, "ax", @progbits

# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i9.entry
broken_i9.entry:
    NMI_PROLOGUE
    # rbx is saved, and the body keeps it.
    movq %rsp, %rbx
    leaq 8(%rsp), %rdi
broken_i9.switch:
    movq $broken_i9.area_end, %rsp
broken_i9.body:
    call nmi_body
    movq %rbx, %rsp
broken_i9.exit:
    NMI_EPILOGUE
broken_i9.exit_iret:
    iretq
"#}
