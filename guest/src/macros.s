# What entry schemes share. Included by all assembler, defined once.
#
# Notation: T is the top of the NMI stack, where the CPU leaves
#   RIP T-40, CS T-32, RFLAGS T-24, RSP T-16, SS T-8.
.ifndef .Lentry_macros
.set .Lentry_macros, 1

# PUSH_REGS: the fifteen registers of abi::Regs.
# In: RSP → a word for abi::Regs::error, and the frame above it.
# Out: RSP → abi::Regs. Clobbers nothing.
.macro PUSH_REGS
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

# POP_REGS: the reverse. In: RSP → abi::Regs. Out: RSP → abi::Regs::error; all
# fifteen registers are the interrupted context's. RFLAGS are kept.
.macro POP_REGS
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
.endm

# SAVE_CR2: one word on the stack, so that a fault in the body does not change
# the address that an interrupted #PF handler has yet to read. Clobbers rax.
.macro SAVE_CR2
    movq %cr2, %rax
    pushq %rax
.endm

# RESTORE_CR2: takes that word from the stack. Clobbers rax.
.macro RESTORE_CR2
    popq %rax
    movq %rax, %cr2
.endm

# ENTER_KERNEL_GS: GS is the kernel's afterwards, whoever was interrupted. What it asks is whether
# GS's base is that of this CPU's data: a user may choose any base (WRGSBASE), also one in the high
# half. Where it is not, KERNEL_GS_BASE holds the kernel's.
# Out: rbx = 0: swapped, LEAVE_KERNEL_GS must swap back; 1: it was the kernel's.
# Clobbers rax, rcx, rdx, RFLAGS.
.macro ENTER_KERNEL_GS
    movl ${gs_base}, %ecx
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movl $1, %ebx
    cmpq $PERCPU, %rax
    je .Lkernel_gs_\@
    swapgs
    xorl %ebx, %ebx
.Lkernel_gs_\@:
.endm

# LEAVE_KERNEL_GS: undoes it. In: rbx from ENTER_KERNEL_GS. Clobbers RFLAGS.
.macro LEAVE_KERNEL_GS
    testl %ebx, %ebx
    jnz .Lkeep_gs_\@
    swapgs
.Lkeep_gs_\@:
.endm

# TEST_USER cs: ZF is clear where the CS at cs(%rsp) is user code's.
.macro TEST_USER cs
    testb ${ring3}, \cs(%rsp)
.endm

# ESPFIX: before an iretq to user code. One whose SS is of the LDT returns by another way,
# as its stack may be a 16-bit one. In: RSP → frame, two words of room below it; GS and all
# registers are the interrupted context's. Clobbers RFLAGS, which the frame brings back.
.macro ESPFIX
    testb ${in_ldt}, 32(%rsp)
    jnz espfix.return
.endm

# NMI_PROLOGUE: all that a correct CPL0-only handler does before its body.
# In: RSP → frame; registers as interrupted. Out: RSP → CR2, abi::Regs (RSP is
# 16-byte aligned if the frame is at T-40); DF clear. Clobbers rax, RFLAGS.
.macro NMI_PROLOGUE
    pushq $-1
    PUSH_REGS
    SAVE_CR2
    cld
.endm

# NMI_BODY: runs the body. In and out: RSP → CR2, abi::Regs. Clobbers what
# NMI_EPILOGUE brings back.
.macro NMI_BODY
    leaq 8(%rsp), %rdi
    call nmi_body
.endm

# NMI_EPILOGUE: undoes NMI_PROLOGUE. In: RSP → CR2, abi::Regs. Out: RSP → frame;
# registers and CR2 as interrupted. Clobbers RFLAGS.
.macro NMI_EPILOGUE
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp
.endm

.endif
