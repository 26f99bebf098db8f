/* IST. A nested NMI writes a word that most of the work has below its stack pointer. A part of it
 * has the word above, and nothing reads it there but the oracle, which compares it (I7). The
 * contexts are alike to the handler. */
#include "kind.h"
    .globl on_again, more_work
on_again:
    movq $2, stack_high - 40
    ret
more_work:
    nop
    subq $32, %rsp
    nop
    addq $32, %rsp
    ret
