/* Entries that move the tables the CPU delivers by: the IST slot of the TSS, as Linux's
 * __sev_es_ist_enter does, and the IDT. The TSS and a second IDT lie in memory that a run may
 * write. `leaves-…` does not move them back. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("stack nmi low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scratch low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scheme moves-ist arg=moves_ist entry=moves_ist prefix=moves_ist. summary=\"another IST slot while the body runs\"")
NMI_LAB_NOTE("scheme leaves-ist arg=leaves_ist entry=leaves_ist prefix=leaves_ist. summary=\"another IST slot from then on\"")
NMI_LAB_NOTE("scheme moves-idt arg=moves_idt entry=moves_idt prefix=moves_idt. summary=\"another IDT while the body runs\"")
NMI_LAB_NOTE("scheme leaves-idt arg=leaves_idt entry=leaves_idt prefix=leaves_idt. summary=\"another IDT from then on\"")
NMI_LAB_NOTE("scheme clears-ist arg=clears_ist entry=clears_ist prefix=clears_ist. summary=\"no stack for the next NMI at the iretq\"")
NMI_LAB_NOTE("scenario add arg=work summary=\"adds\"")
    .text
    BEGIN main_high
    movq $nmi_high, tss + 0x24      /* IST 1 */
    movw $104, tss + 0x66
    movq $tss, %rax
    movw %ax, gdt + 0x1a
    shrq $16, %rax
    movb %al, gdt + 0x1c
    movb %ah, gdt + 0x1f
    lgdt gdt_pointer
    movl $0x18, %eax
    ltr %ax
    movb $1, idt + 16 * 2 + 4
    movq $idt, %rsi
    movq $second_idt, %rdi
    movl $64, %ecx
    rep movsq
    RUN
    STACK main
    STACK nmi
work:
    movl $3, %ecx
    xorl %eax, %eax
1:  addl %ecx, %eax
    decl %ecx
    jnz 1b
    ret
body:
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    outl %eax, $NMI_LAB_PORT_BODY_END
    ret
moves_ist:
    subq $512, tss + 0x24
    SAVE
    call body
    NMI_LAB_POP_REGS
    addq $8, %rsp
    addq $512, tss + 0x24
    iretq
leaves_ist:
    subq $16, tss + 0x24
    SAVE
    call body
    BACK
clears_ist:
    SAVE
    call body
    movq $0, tss + 0x24
    BACK
moves_idt:
    SAVE
    lidt second_pointer
    call body
    lidt idt_pointer
    BACK
leaves_idt:
    SAVE
    lidt second_pointer
    call body
    BACK
    .section .rodata, "a"
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
second_pointer:
    .word 32 * 16 - 1
    .quad second_idt
    .data
    .balign 16
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
    .quad 0x0000890000000067, 0
gdt_end:
    .bss
    .balign 64
second_idt:
    .skip 32 * 16
tss:
    .skip 128
