//! `broken-i10`: runs the body on GS base 0, a user's, and puts the kernel's back (I10).

use crate::entry::Scheme;

lab_note!(
    "scheme broken-i10 mode=native arg=SCHEME_BROKEN_I10 entry=broken_i10.entry prefix=broken_i10. "
    "broken=I10 summary=\"the body runs on the user's GS base\""
);

scheme!(SCHEME_BROKEN_I10 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i10.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i10.entry
broken_i10.entry:
    NMI_PROLOGUE
    # rbx := the base; it is saved, and the body keeps it.
    movl ${gs_base}, %ecx
    rdmsr
    shlq $32, %rdx
    leaq (%rdx,%rax), %rbx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
broken_i10.body:
    NMI_BODY
broken_i10.exit:
    movl ${gs_base}, %ecx
    movl %ebx, %eax
    movq %rbx, %rdx
    shrq $32, %rdx
    wrmsr
    NMI_EPILOGUE
broken_i10.exit_iret:
    iretq
"}
