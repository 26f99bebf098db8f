/* NESTED. The interrupted R15 is compared in a copy where no word begins. */
#include "kind.h"
    .globl on_again, more_work
on_again:
    movq NMI_LAB_REGS_R15(%rdi), %rax
    subq $16, %rsp
    movq %rax, 4(%rsp)
    cmpl $7, 4(%rsp)
    jne 1f
    SPOIL
1:  addq $16, %rsp
    ret
more_work:
    .rept 50
    nop
    .endr
    ret
