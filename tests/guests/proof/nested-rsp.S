/* NESTED. RSP is compared with a constant, as code does that asks whether there is room on the
 * stack. The work's RSP is there in one place only. */
#include "kind.h"
    .globl on_again, more_work
on_again:
    cmpq $stack_high - 64 - NMI_LAB_REGS_SIZE, %rdi
    jne 1f
    SPOIL
1:  ret
more_work:
    .rept 7
    pushq %rcx
    .endr
    addq $56, %rsp
    .rept 50
    nop
    .endr
    ret
