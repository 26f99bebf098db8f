/* The work makes a far jump through memory. Broken: an NMI at work.window, just after it. */
#include "kind.h"
    .globl more_work, on_nmi
on_nmi:
    UNLESS_AT work.window, 1f
    SPOIL
1:  ret
more_work:
    ljmpl *work.pointer
work.target:
    incq %rax
work.window:
    incq %rax
    ret
    .section .rodata, "a"
work.pointer:
    .long work.target
    .word 8
