/* A whole guest in one page of assembly, with two NMI handlers: `racy` loses an
 * NMI in one narrow window, `fixed` does not. Both take NMIs on the stack that is
 * in use, and keep nested ones apart by a state word, as 32-bit Linux does:
 *     0  no NMI is live      1  one is      2  one is, and another has come
 */
#include "nmi_lab.h"

NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 2097152")
NMI_LAB_NOTE("stack main low=stack_low high=stack_high")
NMI_LAB_NOTE("scheme racy arg=racy.entry entry=racy.entry prefix=racy. repeat=racy.restart idle=nmi_state:4 summary=\"tests the state, then clears it\"")
NMI_LAB_NOTE("scheme fixed arg=fixed.entry entry=fixed.entry prefix=fixed. repeat=fixed.restart idle=nmi_state:4 summary=\"counts the state down and tests in one instruction\"")
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

/* The part that both handlers share. RSP -> the frame that the CPU pushed. */
.macro ENTRY p
\p\().entry:
    cmpl $0, nmi_state
    jne \p\().nested
    cmpq $\p\().cleared, (%rsp) /* behind the clearing, before the iretq? */
    jb \p\().first
    cmpq $\p\().exit_iret, (%rsp)
    jbe \p\().at_exit
\p\().first:
    movl $1, nmi_state
\p\().restart:
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call nmi_body
    NMI_LAB_POP_REGS
    addq $8, %rsp
.endm
.macro NESTED p
\p\().nested:                   /* the live one will see it, and run again */
    movl $2, nmi_state
    iretq
\p\().at_exit:                  /* it is done but for its iretq: once more */
    movl $1, nmi_state
    movq $\p\().restart, (%rsp)
    iretq
.endm

    ENTRY racy
racy.exit:
    cmpl $2, nmi_state
    jne racy.clear
    movl $1, nmi_state
    jmp racy.restart
racy.clear:                     /* an NMI here sets the state to 2: lost */
    movl $0, nmi_state
racy.cleared:
racy.exit_iret:
    iretq
    NESTED racy

    ENTRY fixed
fixed.exit:
    decl nmi_state
fixed.cleared:
    jnz fixed.restart
fixed.exit_iret:
    iretq
    NESTED fixed

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
