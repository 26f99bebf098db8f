/* The work loads another IDT, whose #UD handler is its own. Broken: an NMI at work.window in it. */
#include "kind.h"
    .globl prepare, more_work, on_nmi
prepare:
    movq $idt, %rsi
    movq $second, %rdi
    movl $64, %ecx
    cld
    rep movsq
    movq $work.ud, %rax
    movq $second + 16 * 6, %rdi
    call set_gate
    ret
on_nmi:
    UNLESS_AT work.window, 1f
    SPOIL
1:  ret
more_work:
    lidt second_pointer
    ud2
    lidt idt_pointer
    ret
work.ud:
    addq $2, (%rsp)
work.window:
    nop
    iretq
    .section .rodata, "a"
second_pointer:
    .word 511
    .quad second
    .bss
    .balign 16
second:
    .skip 512
