/* A guest that is right, for defects to be linked to. Each file beside this one replaces some of
 * the functions that are weak here:
 *     prepare    before *ready*
 *     more_work  at the end of the work; keeps RAX, or adds a constant to it
 *     on_nmi     in the NMI handler; RDI -> struct nmi_lab_regs, and all registers are free
 *     on_again   with NESTED and IST only: the same, before the handler repeats its body
 * The handler is one of four. Without a macro NMIs do not nest. With NESTED the body takes a trap
 * that unmasks NMIs, and a nested one makes the live one repeat its body. IST is the same on a stack
 * of its own. With PV the handler is entered and left by the hypervisor.
 */
#include "nmi_lab.h"
#include "../set_gate.h"

NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 2097152")
NMI_LAB_NOTE("stack main low=stack_low high=stack_high")
NMI_LAB_NOTE("scenario sum arg=work summary=\"adds numbers\"")
#if defined(PV)
NMI_LAB_NOTE("scheme kind mode=pv arg=kind.entry entry=kind.entry prefix=kind. summary=\"a callback\"")
#elif defined(NESTED) || defined(IST)
NMI_LAB_NOTE("scheme kind arg=kind.entry entry=kind.entry prefix=kind. repeat=kind.restart idle=nmi_state:4 summary=\"nested NMIs repeat the body\"")
#else
NMI_LAB_NOTE("scheme kind arg=kind.entry entry=kind.entry prefix=kind. summary=\"NMIs do not nest\"")
#endif

#ifdef IST
NMI_LAB_NOTE("stack nmi low=ist_low high=ist_high")
NMI_LAB_NOTE("scratch low=ist_low high=ist_high")
#endif

    .globl _start, set_gate, stack_low, stack_high, idt, idt_pointer, request
    .globl work.a, work.b, kind.entry, kind.spoiling
    .weak prepare, more_work, on_nmi, on_again

/* A GDT with the descriptors that the VMM made, code and data, and one of the TSS. */
.macro LOAD_TSS
    sgdt gdt_pointer
    movq gdt_pointer + 2, %rsi
    movq 8(%rsi), %rax
    movq %rax, gdt + 8
    movq 16(%rsi), %rax
    movq %rax, gdt + 16
    movq $tss, %rax                 /* below 16 MiB */
    shlq $16, %rax
    movq $0x890000000067, %rcx      /* an available TSS of 104 bytes */
    orq %rcx, %rax
    movq %rax, gdt + 24
    movw $39, gdt_pointer
    movq $gdt, gdt_pointer + 2
    lgdt gdt_pointer
    movl $24, %eax
    ltr %ax
.endm

    .text
_start:
    movq $stack_high, %rsp
    movq %rdi, %r12
    movq %rsi, %r13
    movq $undeclared, %rax          /* vector n leads to the HLT at undeclared + n */
    movq $idt, %rdi
1:  call set_gate
    incq %rax
    cmpq $idt_end, %rdi
    jb 1b
    movq %r12, %rax
    movq $idt + 16 * 2, %rdi        /* NMI */
    call set_gate
    movq $trap, %rax
    movq $idt + 16 * 6, %rdi        /* #UD */
    call set_gate
    lidt idt_pointer
#ifdef IST
    movb $1, idt + 16 * 2 + 4
    movq $ist_high, tss + 36
    LOAD_TSS
#endif
    call prepare
#ifdef PV
    movq $NMI_LAB_CALLBACKTYPE_NMI, request
    movq $kind.entry, request + 8
    movl $NMI_LAB_HYPERCALL_CALLBACK_OP, %eax
    xorl %edi, %edi                 /* register */
    movq $request, %rsi
    outl %eax, $NMI_LAB_PORT_PV
#endif
    xorl %r8d, %r8d
    xorl %r15d, %r15d
    outl %eax, $NMI_LAB_PORT_READY
    call *%r13
    movq %rax, %rdi
    outl %eax, $NMI_LAB_PORT_SCENARIO_END
    hlt

    SET_GATE

work:
    movl $1, %ecx
    xorl %eax, %eax
    pushq %rcx
    addq (%rsp), %rax
    popq %rcx
work.a:
    movl $1, %r15d
    movl $7, %r15d
    movl $0x20, %r15d
work.b:
    movl $1, %r15d
    testl %eax, %eax
    call more_work
    ret

prepare:
more_work:
on_nmi:
on_again:
    ret

nmi_body:
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
#if defined(NESTED) || defined(IST)
    ud2                             /* its iretq unmasks NMIs */
#endif
    outl %eax, $NMI_LAB_PORT_BODY_END
    ret

trap:
    addq $2, (%rsp)
    iretq

#if defined(PV)
kind.spoiling:                      /* another entry: the interrupted code gets another R8 back */
    movl $0xbad, %r8d
kind.entry:                         /* RSP -> RCX, R11, and the frame */
    popq %rcx
    popq %r11
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call nmi_body
    movq %rsp, %rdi
    call on_nmi
    NMI_LAB_POP_REGS
    addq $8, %rsp
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax
    movl $NMI_LAB_HYPERCALL_IRET, %eax
    outl %eax, $NMI_LAB_PORT_PV
#elif defined(NESTED) || defined(IST)
kind.entry:
    cmpl $0, nmi_state
    jne kind.nested
    cmpq $kind.cleared, (%rsp)      /* between the clearing and the iretq? */
    jb kind.first
    cmpq $kind.exit_iret, (%rsp)
    jbe kind.at_exit
kind.first:
    movl $1, nmi_state
#ifdef IST
    subq $8, %rsp                   /* a nested NMI's frame takes this one's place: it moves down */
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
#endif
kind.restart:
    pushq $-1
    NMI_LAB_PUSH_REGS
kind.body:
    movq %rsp, %rdi
    call on_nmi
    movq %rsp, %rdi
    call nmi_body
    NMI_LAB_POP_REGS
    addq $8, %rsp
    decl nmi_state
kind.cleared:
    jnz kind.again
kind.exit_iret:
    iretq
kind.again:
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call on_again
    jmp kind.body
kind.nested:
    movl $2, nmi_state
    iretq
kind.at_exit:
    movl $1, nmi_state
    movq $kind.restart, (%rsp)
    iretq
#elif defined(IST)
kind.entry:
    cmpl $0, nmi_state
    jne kind.nested
    cmpq $kind.cleared, (%rsp)
    jb kind.first
    cmpq $kind.exit_iret, (%rsp)
    jbe kind.at_exit
kind.first:
    movl $1, nmi_state              /* the frame moves down: a nested NMI's takes its place */
    subq $8, %rsp
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
    pushq 40(%rsp)
kind.restart:
    pushq $-1
    NMI_LAB_PUSH_REGS
kind.body:
    movq %rsp, %rdi
    call on_nmi
    movq %rsp, %rdi
    call nmi_body
    NMI_LAB_POP_REGS
    addq $8, %rsp
    decl nmi_state
kind.cleared:
    jnz kind.again
kind.exit_iret:
    iretq
kind.again:
    movl $1, nmi_state
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call on_again
    NMI_LAB_POP_REGS
    addq $8, %rsp
    jmp kind.restart
kind.nested:
    movl $2, nmi_state
    iretq
kind.at_exit:
    movl $1, nmi_state
    movq $kind.restart, (%rsp)
    iretq
#else
kind.entry:
    pushq $-1
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    call nmi_body
    movq %rsp, %rdi
    call on_nmi
    NMI_LAB_POP_REGS
    addq $8, %rsp
    iretq
#endif

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
    .skip 64
request:                            /* a hypercall's argument, at the low end of the stack */
    .skip 1024
stack_high:
#ifdef IST
    .balign 16
ist_low:
    .skip 2048
ist_high:
gdt:
    .skip 48
gdt_pointer:
    .skip 16
tss:
    .skip 112
#endif
