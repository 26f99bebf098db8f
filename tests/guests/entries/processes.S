/* Two processes, each with a page table for the kernel and one for its user code, as Linux's page
 * table isolation has them: the user's is at the kernel's plus PAIR. The kernel switches from the
 * first to the second, enters its user code, and leaves it. `right` finds the kernel's by the table
 * that was interrupted; `stale` always loads the first process's; `current` believes a word that
 * says whose turn it is, and that the switch writes before CR3. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("pagetables kernel=0x600000 user=0x604000")
NMI_LAB_NOTE("pagetables kernel=0x608000 user=0x60c000")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("stack entry low=entry_low high=entry_high")
NMI_LAB_NOTE("stack nmi low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scratch low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scheme right arg=right entry=right prefix=right. summary=\"the kernel's table of the process that was interrupted\"")
NMI_LAB_NOTE("scheme stale arg=stale entry=stale prefix=stale. summary=\"the first process's table\"")
NMI_LAB_NOTE("scheme current arg=current entry=current prefix=current. summary=\"the table of the process whose turn it is said to be\"")
NMI_LAB_NOTE("scheme users arg=users entry=users prefix=users. summary=\"gives back a user's table wherever it came from\"")
NMI_LAB_NOTE("scenario switch arg=work ring3 summary=\"a switch, and the second process's user code\"")
#define FIRST 0x600000
#define SECOND 0x608000
#define PAIR 0x4000
    .text
    BEGIN main_high
    movq $FIRST, %rdi
    movl $0x2000e3, %ecx
1:  leaq 0x1067(%rdi), %rax
    movq %rax, (%rdi)
    leaq 0x2067(%rdi), %rax
    movq %rax, 0x1000(%rdi)
    movq $0x0000e3, 0x2000(%rdi)
    movq %rcx, 0x2008(%rdi)         /* 2 MiB that the users' tables lack */
    movq $0x4000e7, 0x2010(%rdi)
    movq $0x6000e3, 0x2018(%rdi)
    xorl $0x2000e3, %ecx
    addq $PAIR, %rdi
    cmpq $SECOND + 2 * PAIR, %rdi
    jb 1b
    movl $FIRST, %eax
    movq %rax, %cr3
    movq $FIRST, turn
    movq $entry_high, tss + 4
    movq $nmi_high, tss + 0x24      /* IST 1 */
    movw $104, tss + 0x66
    movq $tss, %rax
    movw %ax, gdt + 0x2a
    shrq $16, %rax
    movb %al, gdt + 0x2c
    movb %ah, gdt + 0x2f
    lgdt gdt_pointer
    movl $0x28, %eax
    ltr %ax
    movb $1, idt + 16 * 2 + 4
    movq $leave_user, %rax
    GATE 6
    RUN
    STACK main
    STACK entry
    STACK nmi
work:
    movq $SECOND, turn
    movl $SECOND, %eax
    movq %rax, %cr3
    movq %rsp, saved_rsp
    pushq $0x1b
    pushq $0x401000
    pushq $2
    pushq $0x23
    pushq $user_code
    movl $SECOND + PAIR, %eax
    movq %rax, %cr3
    iretq
    .section .user, "ax", @progbits
user_code:
    movl $7, %ebx
    leal 5(%rbx, %rbx, 2), %ebx
    ud2
    .text
leave_user:
    movl $SECOND, %eax
    movq %rax, %cr3
    movq saved_rsp, %rsp
    movl %ebx, %eax
    ret
body:
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    outl %eax, $NMI_LAB_PORT_BODY_END
    ret
right:
    SAVE
    movq %cr3, %r13
    movq %r13, %rax
    andq $~PAIR, %rax
    movq %rax, %cr3
    call body
    movq %r13, %cr3
    BACK
stale:
    SAVE
    movq %cr3, %r13
    testl $PAIR, %r13d
    jz 1f
    movl $FIRST, %eax
    movq %rax, %cr3
1:  call body
    movq %r13, %cr3
    BACK
current:
    SAVE
    movq %cr3, %r13
    movq turn, %rax
    movq %rax, %cr3
    call body
    movq %r13, %cr3
    BACK
users:
    SAVE
    movq %cr3, %r13
    movq %r13, %rax
    andq $~PAIR, %rax
    movq %rax, %cr3
    call body
    orq $PAIR, %rax
    movq %rax, %cr3
    BACK
    .section .rodata, "a"
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
    .data
    .balign 16
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x0000890000000067, 0
gdt_end:
    .bss
    .balign 64
tss:
    .skip 128
saved_rsp:
    .skip 8
turn:
    .skip 8
