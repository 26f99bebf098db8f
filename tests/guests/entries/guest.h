/* What the guests here have in common: the gates, and the way to *ready* and to the end. */
#include "nmi_lab.h"
#include "../set_gate.h"

/* Sets RSP, and the gates: vector n leads to the HLT at undeclared + n, vector 2 to the scheme's
 * arg= (R12). The scenario's (R13) is kept for RUN. RDI -> the gate of vector n by GATE n. */
.macro BEGIN top
    .globl _start
_start:
    movq $\top, %rsp
    movq %rdi, %r12
    movq %rsi, %r13
    movq $undeclared, %rax
    movq $idt, %rdi
1:  call set_gate
    incq %rax
    cmpq $idt_end, %rdi
    jb 1b
    movq %r12, %rax
    GATE 2
    lidt idt_pointer
.endm
.macro GATE vector
    movq $idt + 16 * \vector, %rdi
    call set_gate
.endm
.macro RUN
    outl %eax, $NMI_LAB_PORT_READY
    call *%r13
    movq %rax, %rdi
    outl %eax, $NMI_LAB_PORT_SCENARIO_END
    hlt
    SET_GATE
undeclared:
    .fill 32, 1, 0xf4
    .section .rodata, "a"
idt_pointer:
    .word idt_end - idt - 1
    .quad idt
    .bss
    .balign 64
idt:
    .skip 32 * 16
idt_end:
    .text
.endm
.macro STACK name
    .bss
    .balign 64
\name\()_low:
    .skip 1024
\name\()_high:
    .text
.endm
/* All registers on the stack; RDI -> them. */
.macro SAVE
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    cld
.endm
.macro BACK
    NMI_LAB_POP_REGS
    addq $8, %rsp
    iretq
.endm
