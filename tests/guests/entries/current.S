/* The body reads memory of the process that software says is current, which a switch writes one
 * instruction before CR3. GUARD compares CR3 first. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("scheme plain arg=entry entry=entry summary=\"save, body, restore\"")
NMI_LAB_NOTE("scenario switch arg=work summary=\"changes the address space\"")
#define FIRST 0x600000
#define SECOND 0x603000
#define PRIVATE 0x400000                /* each process's own page, at 4 MiB */
    .text
    BEGIN main_high
    movl $0x4000e3, %ecx
    movq $FIRST, %rdi
1:  leaq 0x1067(%rdi), %rax
    movq %rax, (%rdi)
    leaq 0x2067(%rdi), %rax
    movq %rax, 0x1000(%rdi)
    movq $0x0000e3, 0x2000(%rdi)
    movq $0x2000e3, 0x2008(%rdi)
    movq %rcx, 0x2010(%rdi)
    movq $0x6000e3, 0x2018(%rdi)
    addq $0x3000, %rdi
    movl $0x2000e3, %ecx
    cmpq $SECOND + 0x3000, %rdi
    jb 1b
    movl $FIRST, PRIVATE
    movl $SECOND, PRIVATE - 0x200000
    movl $FIRST, current
    movl $FIRST, %eax
    movq %rax, %cr3
    RUN
    STACK main
work:
    movl $SECOND, %eax
    movl %eax, current
    movq %rax, %cr3
    movl PRIVATE, %eax
    ret
entry:
    SAVE
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    movl current, %ecx
#ifdef GUARD
    movq %cr3, %rax
    cmpl %eax, %ecx
    jne 1f
#endif
    cmpl PRIVATE, %ecx
    je 1f
    movq $text, %rdi
    movl $text_end - text, %esi
    outl %eax, $NMI_LAB_PORT_PANIC
1:  outl %eax, $NMI_LAB_PORT_BODY_END
    BACK
text:
    .ascii "not the current process"
text_end:
    .bss
    .balign 8
current:
    .skip 8
