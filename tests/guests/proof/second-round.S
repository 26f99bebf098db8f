/* The work stands at work.x twice, with the same registers. An NMI there writes the same words both
 * times, and reads a word of the stack only the second time. Broken: NMIs at work.a and work.x#2. */
#include "kind.h"
    .globl more_work, on_nmi
on_nmi:
    UNLESS_AT work.a, 1f
    movq $1, stack_low + 64
    ret
1:  UNLESS_AT work.x, 2f
    cmpl $2, round
    jne 2f
    cmpq $0, stack_low + 64
    je 2f
    SPOIL
2:  ret
more_work:
    movl $0, round
1:  incl round
work.x:
    nop
    cmpl $2, round
    jne 1b
    movl $3, round
    nop
    movl $0, round
    ret
    .bss
round:
    .skip 16
