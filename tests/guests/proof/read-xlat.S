/* A word at the low end of the stack is written by one NMI and read by the next with XLAT, whose
 * address depends on AL. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    movq $stack_low + 64, %rbx
    xorl %eax, %eax
    xlatb
    testb %al, %al
    jz 1f
    SPOIL
1:  movq $1, stack_low + 64
    ret
