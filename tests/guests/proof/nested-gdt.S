/* NESTED. The work loads another GDT, and marks a descriptor of it as not present for a while. A
 * nested NMI loads that descriptor. */
#include "kind.h"
#include "gdt.h"
    .globl prepare, on_again, more_work
prepare:
    COPY_GDT gdt
    ret
more_work:
    lgdt gdt_pointer
    xorb $0x80, gdt + 29            /* P of descriptor 0x18 */
work.x:
    nop
    nop
work.y:
    xorb $0x80, gdt + 29
    ret
on_again:
    movq NMI_LAB_REGS_FRAME(%rdi), %rax
    cmpq $work.x, %rax
    jb 1f
    cmpq $work.y, %rax
    jae 1f
    movl $0x18, %eax
    movl %eax, %es
    movl $0x10, %eax
    movl %eax, %es
1:  ret
    .section .rodata, "a"
gdt_pointer:
    .word 31
    .quad gdt
    .bss
    .balign 16
gdt:
    .skip 32
