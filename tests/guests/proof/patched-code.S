/* Before *ready* the guest patches a NOP of the work into a JMP. Broken: an NMI at work.window,
 * which is reached by the JMP only. */
#include "kind.h"
    .globl prepare, more_work, on_nmi
prepare:
    movb $0xe9, work.site
    movl $work.far - work.back, work.site + 1
    ret
on_nmi:
    UNLESS_AT work.window, 1f
    SPOIL
1:  ret
more_work:
work.site:
    .byte 0x0f, 0x1f, 0x44, 0, 0    /* a NOP of five bytes */
work.back:
    incq %rax
    ret
work.far:
    incq %rax
work.window:
    incq %rax
    jmp work.back
