/* NESTED. ZF of the interrupted RFLAGS is tested in a value that has another bit set. */
#include "kind.h"
    .globl on_again
on_again:
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RFLAGS(%rdi), %rax
    orq $0x40000000, %rax
    testq $0x40, %rax
    jz 1f
    SPOIL
1:  ret
