# Hypercalls by SYSCALL: number in EAX, arguments in RDI, RSI, RDX (xen/include/public/arch-x86/xen-x86_64.h).
        .set    SET_TRAP_TABLE, 0
        .set    STACK_SWITCH, 3
        .set    XEN_VERSION, 17
        .set    CONSOLE_IO, 18
        .set    IRET, 23
        .set    MMUEXT_OP, 26
        .set    CALLBACK_OP, 30
        .set    PHYSDEV_OP, 33
# Selectors of Xen's GDT. The RPL of CS tells a return to user code from one to the guest's kernel.
        .set    USER_CS, 0xe033
        .set    USER_SS, 0xe02b
# struct start_info, at whose address RSI points when the guest begins.
        .set    PT_BASE, 88
        .set    MFN_LIST, 104
# What the VMM and the guest have agreed on (vmm/src/kernels/pc/program.rs).
        .set    HEARTBEAT, 0x4e4

        .macro  note type, kind, value:vararg
        .pushsection .note.Xen, "a", @note
        .balign 4
        .long   4, 2f - 1f, \type
        .asciz  "Xen"
        .balign 4
1:      \kind   \value
2:      .balign 4
        .popsection
        .endm
        note    1, .quad, pv_start              # entry
        note    2, .quad, pv_hypercall_page
        note    3, .quad, 0                     # virtual base
        note    5, .asciz, "xen-3.0"
        note    6, .asciz, "nmi-lab"
        note    7, .asciz, "0"
        note    8, .asciz, "generic"
        note    9, .asciz, "yes"                # PAE
        note    10, .asciz, "!writable_page_tables|pae_pgdir_above_4gb"

        .macro  hypercall number
        mov     $\number, %eax
        syscall
        .endm
# Takes RCX and R11 of what Xen pushed for a callback or a trap; RIP, CS, RFLAGS, RSP and SS remain.
        .macro  entered
        mov     (%rsp), %rcx
        mov     8(%rsp), %r11
        add     $16, %rsp
        .endm
# Goes back to that frame (struct iret_context), with these flags.
        .macro  leave_by_iret flags
        push    \flags
        push    %rcx
        push    %r11
        push    %rax
        .endm

        .section .text.pv, "ax"
        .globl  pv_start, pv_work, pv_hypercall, pv_heartbeat, pv_nmi, pv_body, pv_fault, pv_iret
        .globl  pv_trap_iret, pv_end, pv_to_user, pv_user, pv_syscall
pv_start:
        lea     pv_stack_top(%rip), %rsp
        mov     %rsi, %rbp
        xor     %edi, %edi                      # a line for the console
        mov     $pv_hello_end - pv_hello, %esi
        lea     pv_hello(%rip), %rdx
        hypercall CONSOLE_IO
        mov     $6, %edi                        # I/O privilege, for OUT
        lea     pv_iopl(%rip), %rsi
        hypercall PHYSDEV_OP
        lea     pv_traps(%rip), %rdi
        hypercall SET_TRAP_TABLE
        xor     %edi, %edi
        lea     pv_callback(%rip), %rsi
        hypercall CALLBACK_OP
        mov     %rax, %rbx
        xor     %edi, %edi
        lea     pv_syscall_callback(%rip), %rsi
        hypercall CALLBACK_OP
        or      %rax, %rbx
        mov     $USER_SS, %edi                  # the stack of what comes from user code
        lea     pv_stack_top(%rip), %rsi
        hypercall STACK_SWITCH
        or      %rax, %rbx
        mov     PT_BASE(%rbp), %rax             # user code has the same page table
        shr     $12, %rax
        mov     MFN_LIST(%rbp), %rdx
        mov     (%rdx, %rax, 8), %rax
        mov     %rax, pv_new_user_baseptr + 8(%rip)
        lea     pv_new_user_baseptr(%rip), %rdi
        mov     $1, %esi
        xor     %edx, %edx
        mov     $0x7ff0, %r10d                  # DOMID_SELF
        hypercall MMUEXT_OP
        or      %rax, %rbx
        jz      pv_round
        ud2                                     # Xen refused one of them, and says so

# One round of work: a checksum with registers in use, a hypercall, user code, the heartbeat.
pv_round:
        mov     $0x1111, %r12d
        mov     $0x2222, %r13d
        mov     $0x3333, %r14d
        mov     $0x4444, %r15d
        mov     $0x5555, %ebx
        mov     $0x6666, %ebp
        mov     $0x7777, %esi
        mov     $0x8888, %edi
        mov     $0x9999, %r8d
        mov     $0xaaaa, %r9d
        mov     $0xbbbb, %r10d
        xor     %eax, %eax
        mov     $64, %edx
pv_work:
        add     %r12, %rax
        xor     %r13, %rax
        rol     $3, %rax
        add     %r14, %rax
        xor     %r15, %rax
        add     %rbx, %rax
        xor     %rbp, %rax
        add     %rsi, %rax
        xor     %rdi, %rax
        rol     $5, %rax
        add     %r8, %rax
        xor     %r9, %rax
        add     %r10, %rax
        dec     %edx
        jnz     pv_work
        mov     %rax, %rbx
        xor     %edi, %edi
        xor     %esi, %esi
        mov     $XEN_VERSION, %eax
pv_hypercall:
        syscall
        push    $USER_SS
        lea     pv_user_stack_top(%rip), %rax
        push    %rax
        push    $0x202
        push    $USER_CS
        lea     pv_user(%rip), %rax
        push    %rax
        leave_by_iret $0
        mov     $IRET, %eax
pv_to_user:
        syscall
        ud2
pv_user:                                        # at the guest's lower privilege
        xor     %rbp, %rbx
        rol     $7, %rbx
        xor     %eax, %eax
        syscall
pv_syscall:                                     # back in its kernel; the frame is not needed
        lea     pv_stack_top(%rip), %rsp
        mov     %rbx, %rax
        shr     $32, %rax
        xor     %ebx, %eax
        mov     $HEARTBEAT, %edx
pv_heartbeat:
        out     %eax, %dx
        jmp     pv_round

# The NMI callback.
pv_nmi: entered
        push    %rcx
        push    %r11
        push    %rax
        push    %rdx
        push    %rdi
        push    %rsi
        incl    pv_nmi_count(%rip)
        incl    pv_depth(%rip)
        cmpl    $1, pv_depth(%rip)
        je      pv_body
        incl    pv_nested(%rip)
pv_body:
        mov     pv_variant(%rip), %eax
        cmp     $1, %eax
        je      pv_fault
        cmp     $2, %eax
        je      pv_page_fault
        cmp     $3, %eax
        jne     pv_end
        xor     %edi, %edi
        xor     %esi, %esi
        hypercall XEN_VERSION
        xor     %edi, %edi
        xor     %esi, %esi
        hypercall XEN_VERSION
        jmp     pv_end
pv_fault:
        ud2
        jmp     pv_end
pv_page_fault:
        movabs  $0x7f0000000000, %rdx
        mov     (%rdx), %eax                    # two bytes
pv_end: decl    pv_depth(%rip)
        pop     %rsi
        pop     %rdi
        pop     %rdx
        pop     %rax
        pop     %r11
        pop     %rcx
        leave_by_iret $0
        mov     $IRET, %eax
pv_iret:
        syscall
        ud2

# Both faults go on behind their instruction, which has two bytes.
pv_page_fault_trap:
        mov     (%rsp), %rcx
        mov     8(%rsp), %r11
        add     $24, %rsp                       # the error code, too
        jmp     1f
pv_ud_trap:
        entered
1:      addq    $2, (%rsp)
        leave_by_iret pv_flags(%rip)
        mov     $IRET, %eax
pv_trap_iret:
        syscall
        ud2

        .balign 4096
pv_hypercall_page:
        .fill   4096, 1, 0xc3

        .section .data.pv, "aw"
        .globl  pv_nmi_count, pv_depth, pv_nested, pv_variant, pv_flags
        .balign 8
pv_callback:
        .short  4, 0                            # NMI
        .long   0
        .quad   pv_nmi
pv_syscall_callback:
        .short  2, 0                            # SYSCALL
        .long   0
        .quad   pv_syscall
pv_new_user_baseptr:                            # struct mmuext_op
        .long   15, 0
        .quad   0, 0
pv_traps:
        .byte   6, 0
        .short  0xe033
        .long   0
        .quad   pv_ud_trap
        .byte   14, 0
        .short  0xe033
        .long   0
        .quad   pv_page_fault_trap
        .quad   0, 0
pv_nmi_count:
        .long   0
pv_depth:
        .long   0
pv_nested:
        .long   0
pv_variant:
        .long   0
pv_flags:                                       # of returns from faults
        .quad   0
pv_iopl:
        .long   1
pv_hello:
        .ascii  "the lab's guest is up\n"
pv_hello_end:
        .section .bss.pv, "aw", @nobits
        .balign 4096
        .skip   16384
pv_stack_top:
        .skip   4096
pv_user_stack_top:
