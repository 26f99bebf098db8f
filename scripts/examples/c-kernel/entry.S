/* Boot, the NMI's entry and exit, and the fault that the scenario raises. */
#include "nmi_lab.h"

    .text
    .globl _start
_start:                         /* RDI: the scheme's arg=, RSI: the scenario's */
    movq $main_stack_top, %rsp
    call kernel_main

/* The NMI's handler: the simplest there is. RSP -> the frame, at the top of the
 * NMI stack. Right as long as nothing in the body returns by iretq. */
    .globl my.entry
my.entry:
    pushq $-1                   /* struct nmi_lab_regs: error … */
    NMI_LAB_PUSH_REGS           /* … and RSP -> r15 */
    cld
    movq %rsp, %rdi
    subq $8, %rsp               /* C wants RSP + 8 aligned to 16 in a function */
my.body:
    call nmi_body
    addq $8, %rsp
    NMI_LAB_POP_REGS
    addq $8, %rsp
my.exit_iret:
    iretq

    .globl invalid_opcode
invalid_opcode:
    addq $2, (%rsp)
    iretq

    .globl undeclared
undeclared:                     /* vector n's gate leads to undeclared+n */
    .fill 32, 1, 0xf4

    .section .bss.stacks, "aw", @nobits
    .globl main_stack_top, nmi_stack, nmi_stack_top
main_stack_top:
    .skip 64                    /* a stack that overflows downwards hits these */
nmi_stack:
    .skip 1024
nmi_stack_top:

    .section .note.GNU-stack, "", @progbits
