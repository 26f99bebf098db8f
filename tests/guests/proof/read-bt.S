/* As read-xlat.S, but BT reads the word, by a bit offset from another one. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    movq $stack_low, %rbx
    movl $64 * 8, %eax
    btq %rax, (%rbx)
    jnc 1f
    SPOIL
1:  movq $1, stack_low + 64
    ret
