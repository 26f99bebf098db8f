/* The handler looks at the instruction that it interrupted. Broken: an NMI at an iretq. The lab may
 * leave no byte of its own there. */
#include "kind.h"
    .globl more_work, on_nmi
on_nmi:
    movq NMI_LAB_REGS_FRAME(%rdi), %rax
    cmpw $0xcf48, (%rax)            /* iretq */
    jne 1f
    SPOIL
1:  ret
more_work:
    movq %rsp, %rdx
    pushq $0x10
    pushq %rdx
    pushfq
    pushq $8
    pushq $work.landed
    iretq
work.landed:
    ret
