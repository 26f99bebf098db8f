/* NESTED. SF after an OR of the low byte of the interrupted RFLAGS is the interrupted SF. */
#include "kind.h"
    .globl on_again, more_work
on_again:
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RFLAGS(%rdi), %rax
    orb $2, %al
    jns 1f
    SPOIL
1:  ret
more_work:
    xorl %edx, %edx
    subl $1, %edx
    movl $0, %edx
    testl %eax, %eax
    .rept 50
    nop
    .endr
    ret
