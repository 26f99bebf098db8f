/* A whole guest in a page or two of assembly, with one NMI handler, `mini`. It takes
 * NMIs on the stack that is in use, and knows nested ones by a state word, as 32-bit
 * Linux does:
 *     0  no NMI is live      1  one is      2  one is, and another has come
 * In one narrow window it loses an NMI; README.md tells how to find and mend that.
 */
#include "nmi_lab.h"

NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 2097152")
NMI_LAB_NOTE("stack main low=stack_low high=stack_high")
NMI_LAB_NOTE("scheme mini arg=mini.entry entry=mini.entry prefix=mini. repeat=mini.restart idle=nmi_state:4 summary=\"nested NMIs make the live one run again\"")
NMI_LAB_NOTE("scenario sum arg=work summary=\"adds numbers; the NMI body raises #UD\"")

    .text
    .globl _start
/* RDI: the scheme's arg=, here its handler. RSI: the scenario's, here its work. */
_start:
    movq $stack_high, %rsp
    movq %rdi, %r12
    movq %rsi, %r13
    movq $undeclared, %rax      /* vector n leads to the HLT at undeclared+n */
    movq $idt, %rdi
1:  call set_gate
    incq %rax
    cmpq $idt_end, %rdi
    jb 1b
    movq %r12, %rax
    movq $idt + 16 * 2, %rdi    /* NMI */
    call set_gate
    movq $invalid_opcode, %rax
    movq $idt + 16 * 6, %rdi    /* #UD */
    call set_gate
    lidt idt_pointer
    outl %eax, $NMI_LAB_PORT_READY
    call *%r13
    movq %rax, %rdi
    outl %eax, $NMI_LAB_PORT_SCENARIO_END
    hlt

/* Writes the gate at RDI for the handler in RAX; RDI moves on to the next. */
set_gate:
    movq %rax, %rdx
    movw %dx, (%rdi)
    movl $0x8e000008, 2(%rdi)   /* the VMM's code segment; an interrupt gate */
    shrq $16, %rdx
    movw %dx, 6(%rdi)
    shrq $16, %rdx
    movl %edx, 8(%rdi)
    addq $16, %rdi
    ret

/* The work that NMIs interrupt. Its result must not depend on them. */
work:
    movl $3, %ecx
    xorl %eax, %eax
1:  pushq %rcx
    addq (%rsp), %rax
    popq %rcx
    decl %ecx
    jnz 1b
    ret

/* The body of every NMI. RDI -> struct nmi_lab_regs. It raises #UD, whose iretq
 * unmasks NMIs: from there on another one may come. */
nmi_body:
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    ud2
    outl %eax, $NMI_LAB_PORT_BODY_END
    ret

invalid_opcode:
    addq $2, (%rsp)
    iretq

/* The NMI handler. RSP -> the frame that the CPU pushed. */
mini.entry:
    cmpl $0, nmi_state
    jne mini.nested
    cmpq $mini.cleared, (%rsp)  /* behind the clearing, before the iretq? */
    jb mini.first
    cmpq $mini.exit_iret, (%rsp)
    jbe mini.at_exit
mini.first:
    movl $1, nmi_state
mini.restart:
    pushq $-1                   /* RSP -> the frame; all registers as interrupted */
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call nmi_body
    NMI_LAB_POP_REGS
    addq $8, %rsp
mini.exit:
#ifdef FIXED
    decl nmi_state              /* counts down and tests in one instruction */
mini.cleared:
    jnz mini.restart
#else
    cmpl $1, nmi_state
    jne mini.again
    movl $0, nmi_state
mini.cleared:
#endif
mini.exit_iret:
    iretq
mini.again:
    movl $1, nmi_state
    jmp mini.restart
mini.nested:                    /* the live one will see it, and run again */
    movl $2, nmi_state
    iretq
mini.at_exit:                   /* the live one is done but for its iretq: again */
    movl $1, nmi_state
    movq $mini.restart, (%rsp)
    iretq

undeclared:
    .fill 32, 1, 0xf4

    .section .rodata, "a"
idt_pointer:
    .word idt_end - idt - 1
    .quad idt

    .bss
    .balign 16
idt:
    .skip 32 * 16
idt_end:
nmi_state:
    .skip 16
stack_low:
    .skip 1024
stack_high:
