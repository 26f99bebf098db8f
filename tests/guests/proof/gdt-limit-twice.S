/* The limit of the GDT, as a place for a bit: an NMI at work.a changes it, one at work.b changes it
 * further, and the work's result depends on the last value only. */
#include "kind.h"
    .globl prepare, more_work, on_nmi
    .macro CLEAR at
    movq $0, \at
    movw $0, \at + 8
    .endm
prepare:
    sgdt table
    movw $0x1f, table
    lgdt table
    CLEAR table
    ret
on_nmi:
    sgdt table
    UNLESS_AT work.a, 1f
    movw $0x1d, table
1:  UNLESS_AT work.b, 2f
    cmpw $0x1d, table
    jne 2f
    movw $0x1b, table
2:  lgdt table
    CLEAR table
    ret
more_work:
    sgdt table
    cmpw $0x1b, table
    CLEAR table
    jne 1f
    movl $0xbad, %eax
1:  ret
    .bss
table:
    .skip 16
