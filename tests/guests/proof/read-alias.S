/* As read-xlat.S, but the word is read at another virtual address: linked with HIGH=0x40000000. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    movq stack_low + 64 - 0x40000000, %rax
    testq %rax, %rax
    jz 1f
    SPOIL
1:  movq $1, stack_low + 64
    ret
