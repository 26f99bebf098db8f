/* An entry for the built-in kernel. A word of free RAM is written through the direct map. */
#include "entry.h"
    ENTER
    movabsq $0xffff8880003ff000, %rbx
    movq 8 + NMI_LAB_REGS_FRAME(%rsp), %rcx
    cmpq $1, (%rbx)
    jne 1f
    cmpq $work.fold, %rcx
    jne 1f
    movq $0xbad, 8 + NMI_LAB_REGS_R8(%rsp)
1:  xorl %eax, %eax
    cmpq $work.flags, %rcx
    jne 2f
    incl %eax
2:  movq %rax, (%rbx)
    LEAVE
