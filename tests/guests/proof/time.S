/* The handler looks at the time stamp counter, and breaks once in a thousand times. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    rdtsc
    imull $0x9e3779b1, %eax, %eax
    shrl $22, %eax
    jnz 1f
    SPOIL
1:  ret
