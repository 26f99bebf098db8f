//! `broken-i5`: opens NMIs inside the body by a small iretq, so that a second body
//! begins within the first (I5).
//!
//! Nothing else is wrong with it: a nested NMI continues below the stack it
//! interrupted, as if there were no IST, so that no frame is ever overwritten, and
//! its body is shown the outermost context. The outermost NMI has T-512…T-1024, out
//! of the hardware frame's way.

use guest::abi;

use crate::arch::{gdt, stacks};
use crate::entry::Scheme;
use crate::scenario;

lab_note!(
    "scheme broken-i5 mode=native arg=SCHEME_BROKEN_I5 entry=broken_i5.entry prefix=broken_i5. "
    "broken=I5 repeat=broken_i5.opened summary=\"opens NMIs inside the body, and nests\""
);

/// What the scenario wants of a body.
#[unsafe(no_mangle)]
extern "sysv64" fn broken_i5_scenario() {
    (scenario::current().body)();
}

scheme!(SCHEME_BROKEN_I5 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "broken_i5.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl broken_i5.entry
broken_i5.entry:
    pushq %rax
    pushq %rdx
    # rdx := where to go on: T-512 for the outermost NMI; for a nested one the
    # interrupted RSP, but clear of what the outermost has.
    leaq 56(%rsp), %rax
    movq 40(%rsp), %rdx
    cmpq %rax, %rdx
    jae broken_i5.outermost
    subq ${stack_size}, %rax
    cmpq %rax, %rdx
    jb broken_i5.outermost
broken_i5.nested:
    leaq -968(%rsp), %rax
    cmpq %rax, %rdx
    jbe broken_i5.copy_frame
    movq %rax, %rdx
    jmp broken_i5.copy_frame
broken_i5.outermost:
    leaq -456(%rsp), %rdx

# RSP = T-56 → rdx, rax, hardware frame. Copies all seven words below rdx.
broken_i5.copy_frame:
    andq $-16, %rdx
    movq 48(%rsp), %rax
    movq %rax, -8(%rdx)
    movq 40(%rsp), %rax
    movq %rax, -16(%rdx)
    movq 32(%rsp), %rax
    movq %rax, -24(%rdx)
    movq 24(%rsp), %rax
    movq %rax, -32(%rdx)
    movq 16(%rsp), %rax
    movq %rax, -40(%rdx)
    movq 8(%rsp), %rax
    movq %rax, -48(%rdx)
    movq (%rsp), %rax
    movq %rax, -56(%rdx)
    leaq -56(%rdx), %rsp
    popq %rdx
    popq %rax

# RSP → the copied frame; registers as interrupted.
broken_i5.save:
    NMI_PROLOGUE
broken_i5.body:
    # The outermost NMI's registers, at T-512-168 whatever comes after.
    movq $nmi_stack_high-680, %rdi
    outl %eax, ${body_begin}
    movq %rsp, %rax
    pushq ${kernel_ds}
    pushq %rax
    pushfq
    pushq ${kernel_cs}
    pushq $broken_i5.opened
    iretq
broken_i5.opened:
    call broken_i5_scenario
    outl %eax, ${body_end}
broken_i5.exit:
    NMI_EPILOGUE
broken_i5.exit_iret:
    iretq
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
    body_begin = abi::PORT_BODY_BEGIN,
    body_end = abi::PORT_BODY_END,
}
