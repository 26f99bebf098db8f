/* A bit that is kept where the search might not look. Defined before: LOAD and STORE, macros that
 * move the bit to and from EAX, and may use RCX, RDX and RSI. An NMI at work.a sets it, any other
 * clears it, and one at work.b that finds it set does not give R8 back. So two NMIs are needed. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    LOAD
    testl %eax, %eax
    jz 1f
    UNLESS_AT work.b, 1f
    SPOIL
1:  xorl %eax, %eax
    UNLESS_AT work.a, 2f
    incl %eax
2:  STORE
    ret
