/* NESTED. Bit 5 of the interrupted R15 is read by BT, by an offset from another word. */
#include "kind.h"
    .globl on_again
on_again:
    subq $16, %rsp
    movl $(24 + NMI_LAB_REGS_R15) * 8 + 5, %ecx
    btq %rcx, (%rsp)                /* 24: these 16 bytes, and the return address */
    jnc 1f
    SPOIL
1:  addq $16, %rsp
    ret
