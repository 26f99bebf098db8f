# Handlers of faults, one set for each way to return. Included by all assembler, defined once.
#
# A scheme with a way of its own to return from faults adds its set to FOR_EACH_SET and
# defines it by FAULTS. A scenario that raises faults on purpose declares them by
# MEANT_…, beside the code that raises them, and touches no handler.
.ifndef .Lfault_macros
.set .Lfault_macros, 1

# FOR_EACH_SET what, …: `what set, …` for each set of handlers. Its labels begin with its name.
.macro FOR_EACH_SET what, rank, first, last
    .irp set, fault, pv_fault, bit31_fault, fred_fault, safe_fault
    \what \set, \rank, \first, \last
    .endr
.endm

# A handler that knows places asks for one after the other. It begins in the section
# .text.fault.SET.KIND.0 and ends in .9; each declared place is a section in between, with
# its rank. The linker puts them together by name: control falls from each to the next.
# The rank says which is asked for first: a handler's instructions are boundaries, so the
# order is part of what a campaign counts.
.macro ASKING set, kind, rank
    .pushsection .text.fault.\set\().\kind\().\rank, "ax", @progbits
.endm

# ASK set, kind, rank, label, to: a fault that pushed this RIP is dealt with at `to`.
.macro ASK set, kind, rank, label, to
    ASKING \set, \kind, \rank
    cmpq $\label, (%rsp)
    je \set\().\to
    .popsection
.endm

# MEANT_STEPS rank, first, last: code that steps itself; its #DBs push RIPs from `first` to
# `last`. It goes on, with TF as its frame has it.
.macro MEANT_STEPS rank, first, last
    FOR_EACH_SET ASK_STEPS, \rank, \first, \last
.endm
.macro ASK_STEPS set, rank, first, last
    ASKING \set, debug, \rank
    cmpq $\first, (%rsp)
    jb .Lbelow_\@
    cmpq $\last, (%rsp)
    jbe \set\().debug_exit
.Lbelow_\@:
    .popsection
.endm

# MEANT_STEPPED rank, label: the #DB that pushes this RIP ends the stepping: TF is cleared.
.macro MEANT_STEPPED rank, label
    FOR_EACH_SET ASK_STEPPED, \rank, \label
.endm
.macro ASK_STEPPED set, rank, label, unused
    ASK \set, debug, \rank, \label, debug_end
.endm

# MEANT_INT3 rank, label: the int3 before this label. It has done nothing.
.macro MEANT_INT3 rank, label
    FOR_EACH_SET ASK_INT3, \rank, \label
.endm
.macro ASK_INT3 set, rank, label, unused
    ASK \set, breakpoint, \rank, \label, breakpoint_exit
.endm

# MEANT_UD2 rank, label: the ud2 at this label, which is skipped.
.macro MEANT_UD2 rank, label
    FOR_EACH_SET ASK_UD2, \rank, \label
.endm
.macro ASK_UD2 set, rank, label, unused
    ASK \set, invalid_opcode, \rank, \label, invalid_opcode_skip
.endm

# BRING_SEGMENT: the segment of gdt::GOING_CS is present again. Clobbers RFLAGS.
.macro BRING_SEGMENT
    orb ${access_present}, GDT + {going_access}
    movb $1, SEGMENT_BROUGHT
.endm

# FAULTS set, return: a set of handlers, which end in the macro `return`. What is not meant
# stops at a HLT: RSP and all registers but RFLAGS are as at delivery, so the VMM can say
# what faulted.
#
# The macro `return` has the contract: `return LABEL`, RSP → the five words of the frame, all
# registers but RFLAGS the interrupted context's. Does not return. Its last instruction has
# the label LABEL_iret.
.macro FAULTS set, return
    # #DB. RSP → frame. Looks neither at DR6 nor counts. Clobbers only RFLAGS.
    ASKING \set, debug, 0
    .globl \set\().debug
\set\().debug:
    .popsection
    ASKING \set, debug, 9
    cmpb $0, BREAKPOINTS
    jne \set\().debug_exit
\set\().debug_unhandled:
    hlt
\set\().debug_end:
    andl ${not_tf}, 16(%rsp)
\set\().debug_exit:
    \return \set\().debug
    .popsection

    # #BP. RSP → frame, whose RIP is after the int3. Clobbers only RFLAGS.
    ASKING \set, breakpoint, 0
    .globl \set\().breakpoint
\set\().breakpoint:
    .popsection
    ASKING \set, breakpoint, 9
\set\().breakpoint_unhandled:
    hlt
\set\().breakpoint_exit:
    \return \set\().breakpoint
    .popsection

    # #UD. RSP → frame. Skips a ud2. Clobbers only RFLAGS, which the frame restores.
    ASKING \set, invalid_opcode, 0
    .globl \set\().invalid_opcode
\set\().invalid_opcode:
    .popsection
    ASKING \set, invalid_opcode, 9
\set\().invalid_opcode_unhandled:
    hlt
\set\().invalid_opcode_skip:
    addq $2, (%rsp)
    \return \set\().invalid_opcode
    .popsection

    # #NP. RSP → error code, frame. Brings back the one segment that comes and goes, and
    # retries what wanted it: with whatever GS, on whatever stack. Clobbers only RFLAGS.
    .globl \set\().segment_not_present
\set\().segment_not_present:
    cmpq ${going_error}, (%rsp)
    jne fault.unhandled_segment_not_present
    BRING_SEGMENT
    addq $8, %rsp
    \return \set\().segment_not_present

    # #PF. RSP → error code, frame. The Rust part keeps the registers that are not saved
    # here. Where it cannot help, registers are as they were at the HLT.
    .globl \set\().page_fault
\set\().page_fault:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq 72(%rsp), %rsi
\set\().page_fault_cr2:
    movq %cr2, %rdi
    # The CPU aligned RSP to 16 and pushed six words, nine are above: one more.
    pushq %rsi
    cld
    call sync_kernel_entry
    testb %al, %al
    popq %r11
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    jz fault.unhandled_page_fault
    addq $8, %rsp
    \return \set\().page_fault
.endm

# RETURN_IRETQ: as FAULTS says.
.macro RETURN_IRETQ name
\name\()_iret:
    iretq
.endm

# EXTERNAL name, return: a handler. RSP → frame. Notes in this CPU's data that it ran. `return` as
# for FAULTS.
.macro EXTERNAL name, return
    .globl \name\().entry
\name\().entry:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    ENTER_KERNEL_GS
\name\().body:
    movb $1, %gs:{external_seen}
    LEAVE_KERNEL_GS
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    \return \name\().exit
.endm

# REFUSED set, return: the handler of a #GP that the iret hypercall raised, since it
# would not load a segment. RSP → error code, frame: RIP is the stub's call, RSP →
# iret_context, all as they were, and NMIs are masked or not as they were. Brings back
# the one segment that comes and goes, and makes the call again. Clobbers only RFLAGS.
.macro REFUSED set, return
    .globl \set\().general_protection
\set\().general_protection:
    cmpq $HYPERVISOR_iret + {stub_call}, 8(%rsp)
    jne fault.unhandled_general_protection
    pushq %rax
    movq 40(%rsp), %rax
    cmpw ${going_cs}, 40(%rax)
    popq %rax
    jne fault.unhandled_general_protection
    BRING_SEGMENT
    addq $8, %rsp
    \return \set\().general_protection
.endm

.endif
