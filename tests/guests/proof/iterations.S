/* Broken: an NMI between two iterations of the work's `rep stosb`. */
#include "kind.h"
    .globl more_work, on_nmi
on_nmi:
    UNLESS_AT work.rep, 1f
    cmpq $3, NMI_LAB_REGS_RCX(%rdi)
    je 1f
    SPOIL
1:  ret
more_work:
    movq $buffer, %rdi
    movl $3, %ecx
work.rep:
    rep stosb
    ret
    .bss
buffer:
    .skip 16
