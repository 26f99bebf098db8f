/* The beginning and the end of an NMI entry for the built-in kernel (`--entry`). */
#include "nmi_lab.h"
.macro ENTER
    .globl nmi_entry
nmi_entry:
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %cr2, %rax
    pushq %rax
    leaq 8(%rsp), %rdi
    cld
    call nmi_body
.endm
.macro LEAVE
    popq %rax
    movq %rax, %cr2
    NMI_LAB_POP_REGS
    addq $8, %rsp
    iretq
.endm
