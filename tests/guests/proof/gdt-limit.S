/* The handler loads the GDT again with a limit that is one descriptor short. The work then loads
 * that descriptor. One NMI is enough. */
#include "kind.h"
#include "gdt.h"
    .globl prepare, more_work, on_nmi
prepare:
    COPY_GDT gdt
    lgdt whole
    ret
on_nmi:
    lgdt short
    ret
more_work:
    movl $0x18, %edx
    movl %edx, %es
    movl $0x10, %edx
    movl %edx, %es
    ret
    .section .rodata, "a"
whole:
    .word 31
    .quad gdt
short:
    .word 23
    .quad gdt
    .bss
    .balign 16
gdt:
    .skip 32
