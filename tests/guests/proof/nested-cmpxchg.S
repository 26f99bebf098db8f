/* NESTED. CMPXCHG compares the interrupted R15 with 7. */
#include "kind.h"
    .globl on_again
on_again:
    movl $7, %eax
    movq NMI_LAB_REGS_R15(%rdi), %rcx
    lock cmpxchgq %rcx, NMI_LAB_REGS_R15(%rdi)
    jne 1f
    SPOIL
1:  ret
