/* The first NMI writes a word of the TSS that nobody uses; one that finds it written panics. */
#include "entry.h"
    ENTER
    movl GDT + 0x2a, %eax
    andl $0xffffff, %eax
    movzbl GDT + 0x2f, %ecx
    shll $24, %ecx
    orl %ecx, %eax
    movl GDT + 0x30, %ecx
    shlq $32, %rcx
    orq %rcx, %rax
    cmpq $0, 0x54(%rax)             /* IST 7 */
    je 1f
    movq $text, %rdi
    movl $4, %esi
    outl %eax, $NMI_LAB_PORT_PANIC
1:  movq $1, 0x54(%rax)
    movq %rsp, %rdi
    addq $8, %rdi
    cld
    call nmi_body
    LEAVE
text:
    .ascii "seen"
