/* The beginning and the end of an NMI entry for the built-in kernel (`--entry`). */
#include "nmi_lab.h"
.macro ENTER
    .globl nmi_entry
nmi_entry:
    SAVE
.endm
/* Registers and CR2 on the stack; RDI -> struct nmi_lab_regs. */
.macro SAVE
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %cr2, %rax
    pushq %rax
    leaq 8(%rsp), %rdi
.endm
.macro RESTORE
    popq %rax
    movq %rax, %cr2
    NMI_LAB_POP_REGS
.endm
.macro LEAVE
    RESTORE
    addq $8, %rsp
    iretq
.endm
