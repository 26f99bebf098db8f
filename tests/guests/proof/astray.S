/* RSP is outside every declared stack for two instructions of the handler (I9), where it has
 * interrupted work.b. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    UNLESS_AT work.b, 1f
    movq %rsp, %rbx
    movq $no_stack, %rsp
    movq %rbx, %rsp
1:  ret
    .bss
    .skip 64
no_stack:
    .skip 16
