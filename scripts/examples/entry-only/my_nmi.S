/* An NMI entry for the built-in kernel, linked in by `--entry my_nmi.o`. */
#include "nmi_lab.h"

NMI_LAB_NOTE("scheme mine prefix=my. summary=\"my own entry\"")

    .text
    .globl nmi_entry
nmi_entry:                      /* RSP -> the frame, on the NMI stack */
    pushq $-1
my.save:
    NMI_LAB_PUSH_REGS
    movq %cr2, %rax             /* a fault in the body changes it */
    pushq %rax
    leaq 8(%rsp), %rdi          /* RSP is 16-byte aligned, as the call wants */
    cld
my.body:
    call nmi_body               /* the kernel's: what the scenario does in an NMI */
    popq %rax
    movq %rax, %cr2
my.exit:
    NMI_LAB_POP_REGS
    addq $8, %rsp
my.exit_iret:
    iretq
