# A paravirtual guest of Xen's in a hundred lines: it works for ever, asks Xen for its version now and
# then, and takes NMIs by a callback. The callback meets a condition that it warns about by UD2, as
# kernels do, unless it is built with FIXED=1: Xen unmasks NMIs where the warning returns.

        .set    SET_TRAP_TABLE, 0               # hypercalls (xen/include/public/xen.h)
        .set    XEN_VERSION, 17
        .set    IRET, 23
        .set    CALLBACK_OP, 30
        .set    PHYSDEV_OP, 33
        .set    KERNEL_CS, 0xe033
        .set    ALIVE, 0x4f0                    # any port that is nobody's

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
        note    1, .quad, start                 # XEN_ELFNOTE_ENTRY, and so on (public/elfnote.h)
        note    2, .quad, hypercall_page
        note    3, .quad, 0
        note    5, .asciz, "xen-3.0"
        note    8, .asciz, "generic"
        note    9, .asciz, "yes"
        note    10, .asciz, "!writable_page_tables|pae_pgdir_above_4gb"

        .macro  hypercall number
        mov     $\number, %eax
        syscall
        .endm

        .text
        .globl  start, work, nmi, body, nmi_iret, panic
start:  lea     stack_top(%rip), %rsp
        mov     $6, %edi                        # PHYSDEVOP_set_iopl, for OUT
        lea     iopl(%rip), %rsi
        hypercall PHYSDEV_OP
        lea     traps(%rip), %rdi
        hypercall SET_TRAP_TABLE
        xor     %edi, %edi                      # CALLBACKOP_register
        lea     callback(%rip), %rsi
        hypercall CALLBACK_OP
        test    %rax, %rax
        jnz     panic
again:  mov     $1000, %ecx
work:   imul    $0x19660d, %rax, %rax
        add     $0x3c6ef35f, %rax
        xor     %rax, %rbx
        loop    work
        xor     %edi, %edi
        xor     %esi, %esi
        hypercall XEN_VERSION
        mov     $ALIVE, %edx
        out     %eax, %dx
        jmp     again
panic:  jmp     panic

# Xen has pushed RCX, R11, and the frame that HYPERVISOR_iret takes but for RAX, R11, RCX and flags.
nmi:    push    %rax
        incl    nmi_count(%rip)
        incl    active(%rip)
        cmpl    $1, active(%rip)
        je      body
        incl    nested(%rip)
body:
#ifndef FIXED
        ud2                                     # a warning
#endif
        decl    active(%rip)
        pop     %rax
        pop     %rcx
        pop     %r11
        push    $0                              # flags
        push    %rcx
        push    %r11
        push    %rax
        mov     $IRET, %eax
nmi_iret:
        syscall
        ud2

# The warning is over: on behind the UD2.
invalid_op:
        pop     %rcx
        pop     %r11
        addq    $2, (%rsp)
        push    $0
        push    %rcx
        push    %r11
        push    %rax
        mov     $IRET, %eax
        syscall
        ud2

        .balign 4096
hypercall_page:
        .fill   4096, 1, 0xc3

        .data
        .globl  nmi_count, nested
        .balign 8
callback:
        .short  4, 0                            # CALLBACKTYPE_nmi
        .long   0
        .quad   nmi
traps:  .byte   6, 0                            # #UD
        .short  KERNEL_CS
        .long   0
        .quad   invalid_op
        .quad   0, 0
nmi_count:
        .long   0
active: .long   0
nested: .long   0
iopl:   .long   1
        .bss
        .balign 4096
        .skip   8192
stack_top:
