/* A bit in CR8 again: the first NMI of a run sets it, and each later one breaks by it, wherever it
 * arrives. A state of one run that leaked into the next would break that one, too. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    movq %cr8, %rax
    testl %eax, %eax
    jz 1f
    SPOIL
1:  movl $1, %eax
    movq %rax, %cr8
    ret
