/* NESTED. ZF of the interrupted RFLAGS is looked at in a copy that has AC set. */
#include "kind.h"
    .globl on_again
on_again:
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RFLAGS(%rdi), %rax
    orq $0x40000, %rax
    pushq %rax
    popfq
    jnz 1f
    SPOIL
1:  pushq $2
    popfq
    ret
