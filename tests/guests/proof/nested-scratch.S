/* NESTED. The work's stack is declared as scratch memory. A nested NMI in a window of the work
 * overwrites a word of it that the work reads later. */
#include "kind.h"
NMI_LAB_NOTE("scratch low=stack_low high=stack_high")
    .globl on_again, more_work
on_again:
    cmpl $1, window
    jne 1f
    movq $0xbad, stack_high - 24
1:  ret
more_work:
    movl $5, %ecx
    pushq %rcx                      /* at stack_high - 24, below two return addresses */
    movl $1, window
    nop
    movl $0, window
    popq %rcx
    addq %rcx, %rax
    .rept 50
    nop
    .endr
    ret
    .bss
window:
    .skip 16
