/* A kernel with a page table apart for user code (SPLIT), which lacks 2 MiB that only the kernel
 * has; the body reads them with TOUCH. User code chooses its GS base, in the low or the high half.
 * What each scheme gets wrong is what its name says; `right` gets all right. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("stack entry low=entry_low high=entry_high")
NMI_LAB_NOTE("stack nmi low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scratch low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scheme right arg=right entry=right prefix=right. summary=\"CR3 and GS as found are given back\"")
NMI_LAB_NOTE("scheme never-loads arg=never_loads entry=never_loads prefix=never_loads. summary=\"keeps the CR3 that it finds\"")
NMI_LAB_NOTE("scheme loads-by-cs arg=loads_by_cs entry=loads_by_cs prefix=loads_by_cs. summary=\"loads CR3 for ring-3 frames only\"")
NMI_LAB_NOTE("scheme gives-by-cs arg=gives_by_cs entry=gives_by_cs prefix=gives_by_cs. summary=\"gives the user's CR3 to ring-3 frames only\"")
NMI_LAB_NOTE("scheme gs-by-sign arg=gs_by_sign entry=gs_by_sign prefix=gs_by_sign. summary=\"takes a high GS base for the kernel's\"")
NMI_LAB_NOTE("scheme gs-by-cs arg=gs_by_cs entry=gs_by_cs prefix=gs_by_cs. summary=\"swaps GS for ring-3 frames only\"")
NMI_LAB_NOTE("scenario user-low arg=work_low ring3 summary=\"user code with a low GS base\"")
NMI_LAB_NOTE("scenario user-high arg=work_high ring3 summary=\"user code with a high GS base\"")
NMI_LAB_NOTE("scenario peek arg=work_peek summary=\"kernel code between two swapgs\"")
NMI_LAB_NOTE("scenario tss arg=work_tss summary=\"kernel code that clears its TSS and fills it again\"")
#define KERNEL_CR3 0x600000
#define USER_CR3 0x603000
#define PRIVATE 0x200000
#define KERNEL_GS_HIGH 0xffff8880
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
    .text
    BEGIN main_high
    movl $0x2000e3, %ecx
    movq $KERNEL_CR3, %rdi
1:  leaq 0x1067(%rdi), %rax
    movq %rax, (%rdi)
    leaq 0x2067(%rdi), %rax
    movq %rax, 0x1000(%rdi)
    movq $0x0000e3, 0x2000(%rdi)
    movq %rcx, 0x2008(%rdi)
    movq $0x4000e7, 0x2010(%rdi)
    movq $0x6000e3, 0x2018(%rdi)
    xorl %ecx, %ecx
    addq $0x3000, %rdi
    cmpq $USER_CR3 + 0x3000, %rdi
    jb 1b
    movl $KERNEL_CR3, %eax
    movq %rax, %cr3
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
    movl $MSR_GS_BASE, %ecx
    movl $percpu, %eax
    movl $KERNEL_GS_HIGH, %edx
    wrmsr
    RUN
    STACK main
    STACK entry
    STACK nmi

work_low:
    xorl %edx, %edx
    jmp enter_user
work_high:
    movl $0xffffc900, %edx
enter_user:
    movl $0x345000, %eax
    movl $MSR_KERNEL_GS_BASE, %ecx
    wrmsr
    movq %rsp, saved_rsp
    pushq $0x1b
    pushq $0x401000
    pushq $2
    pushq $0x23
    pushq $user_code
    swapgs
#ifdef SPLIT
    movl $USER_CR3, %eax
    movq %rax, %cr3
#endif
    iretq
    .section .user, "ax", @progbits
user_code:
    movl $7, %ebx
    leal 5(%rbx, %rbx, 2), %ebx
    nop
    ud2
    .text
leave_user:
    swapgs
    movl $KERNEL_CR3, %eax
    movq %rax, %cr3
    movq saved_rsp, %rsp
    movl %ebx, %eax
    ret
work_peek:
    movl $MSR_KERNEL_GS_BASE, %ecx
    movl $0x345000, %eax
    xorl %edx, %edx
    wrmsr
    swapgs
    nop
    swapgs
    movl $1, %eax
    ret
work_tss:
    movq $0, tss + 0x24
    nop
    movq $nmi_high, tss + 0x24
    movl $1, %eax
    ret

body:
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
#ifdef TOUCH
    movq PRIVATE, %rax
#endif
    outl %eax, $NMI_LAB_PORT_BODY_END
    ret

/* Goes to `to` where the frame is of ring 0. */
.macro UNLESS_USER to
    testb $3, NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_CS(%rsp)
    jz \to
.endm
.macro LOAD_CR3
    movq %cr3, %r13
    movl $KERNEL_CR3, %eax
    movq %rax, %cr3
.endm
.macro GS_IN                        /* R14: the base that was found */
    movl $MSR_GS_BASE, %ecx
    rdmsr
    shlq $32, %rdx
    orq %rax, %rdx
    movq %rdx, %r14
    movl $percpu, %eax
    movl $KERNEL_GS_HIGH, %edx
    wrmsr
.endm
.macro GS_OUT
    movl $MSR_GS_BASE, %ecx
    movl %r14d, %eax
    movq %r14, %rdx
    shrq $32, %rdx
    wrmsr
.endm
right:
    SAVE
    LOAD_CR3
    GS_IN
    call body
    GS_OUT
    movq %r13, %cr3
    BACK
never_loads:
    SAVE
    GS_IN
    call body
    GS_OUT
    BACK
loads_by_cs:
    SAVE
    movq %cr3, %r13
    UNLESS_USER 1f
    LOAD_CR3
1:  GS_IN
    call body
    GS_OUT
    movq %r13, %cr3
    BACK
gives_by_cs:
    SAVE
    LOAD_CR3
    GS_IN
    call body
    GS_OUT
    UNLESS_USER 1f
    movq %r13, %cr3
1:  BACK
gs_by_sign:
    SAVE
    LOAD_CR3
    movl $MSR_GS_BASE, %ecx
    rdmsr
    movl %edx, %ebx
    testl %ebx, %ebx
    js 1f
    swapgs
1:  call body
    testl %ebx, %ebx
    js 2f
    swapgs
2:  movq %r13, %cr3
    BACK
gs_by_cs:
    SAVE
    LOAD_CR3
    UNLESS_USER 1f
    swapgs
1:  call body
    UNLESS_USER 2f
    swapgs
2:  movq %r13, %cr3
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
percpu:
    .skip 64
