/* An entry for the built-in kernel whose NMIs leave user code by the thread's stack, and give back
 * the very CR3 that they found: by what nmi_lab.h says, and nothing else. */
#include "entry.h"
NMI_LAB_NOTE("scheme custom kpti entry=nmi_entry prefix=my. summary=\"from user code on the thread's stack\"")
    .text
    .globl nmi_entry
nmi_entry:
    testb $3, 8(%rsp)
    jnz my.from_user
    SAVE
    movq %cr3, %r14
    movq %r14, %rax
    andq $~NMI_LAB_ENTRY_USER_TABLE, %rax
    movq %rax, %cr3
    movl $0xc0000101, %ecx
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movl $1, %ebx
    cmpq $PERCPU, %rax
    je 1f
    swapgs
    xorl %ebx, %ebx
1:  cld
    call nmi_body
    testl %ebx, %ebx
    jnz 2f
    swapgs
2:  movq %r14, %cr3
    LEAVE

/* RSP = T-40 -> frame. */
my.from_user:
    swapgs
    cld
    pushq %rdx
    movq %cr3, %rdx
    pushq %rdx
    andq $~NMI_LAB_ENTRY_USER_TABLE, %rdx
    movq %rdx, %cr3
    movq %rsp, %rdx
    movq %gs:NMI_LAB_ENTRY_THREAD_SP, %rsp
    .irp word, 48, 40, 32, 24, 16
    pushq \word(%rdx)
    .endr
    pushq (%rdx)                /* as `error`: the CR3 that was found */
    movq 8(%rdx), %rdx
    NMI_LAB_PUSH_REGS
    movq %cr2, %rax
    pushq %rax
    leaq 8(%rsp), %rdi
    call nmi_body
    RESTORE
/* RSP -> CR3, frame, on a stack that the user's table lacks. */
my.leave:
    pushq %rdi
    movq %rsp, %rdi
    movq %gs:NMI_LAB_ENTRY_TRAMPOLINE_SP, %rsp
    .irp word, 48, 40, 32, 24, 16, 0
    pushq \word(%rdi)
    .endr
    movq 8(%rdi), %rdi
    movq %rdi, %cr3
    popq %rdi
    swapgs
my.iret:
    iretq
