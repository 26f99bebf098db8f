/* IST. A nested NMI writes a word of a stack that nobody stands on, and that is not scratch. Nothing
 * reads it but the oracle (I7). */
#include "kind.h"
NMI_LAB_NOTE("stack other low=other_low high=other_high")
    .globl on_again
on_again:
    movq $2, other_low + 8
    ret
    .bss
    .balign 16
other_low:
    .skip 64
other_high:
