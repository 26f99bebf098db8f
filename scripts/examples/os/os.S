# A kernel of 150 lines that boots by multiboot 1, works for ever, and handles NMIs: wrongly, unless it
# is built with FIXED=1. Its NMI handler meets a condition that it warns about by UD2, as kernels do; the
# IRETQ of that warning unblocks NMIs.

        .set    FLAGS, 3                        # modules on pages, memory told
        .set    STACK, 0x90000                  # below 640 KiB, which nothing else uses
        .set    NMI_STACK, 0x8f000
        .set    TABLES, 0x70000

        .section .multiboot, "a"
        .balign 4
        .long   0x1badb002, FLAGS, -(0x1badb002 + FLAGS)

        .text
        .code32
        .globl  start
start:  mov     $STACK, %esp
        mov     $TABLES, %edi                   # 1 GiB, each address to itself, in pages of 2 MiB
        movl    $TABLES + 0x1003, (%edi)
        movl    $TABLES + 0x2003, 0x1000(%edi)
        xor     %ecx, %ecx
1:      mov     %ecx, %eax
        shl     $21, %eax
        or      $0x83, %eax
        mov     %eax, 0x2000(%edi, %ecx, 8)
        inc     %ecx
        cmp     $512, %ecx
        jne     1b
        mov     %edi, %cr3
        mov     $0x20, %eax                     # CR4.PAE
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx               # EFER.LME
        rdmsr
        or      $0x100, %eax
        wrmsr
        mov     %cr0, %eax
        or      $0x80000000, %eax               # CR0.PG
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $8, $long

        .code64
long:   mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $tss, %eax                      # its descriptor has the address in pieces
        mov     %ax, gdt + 26
        shr     $16, %eax
        mov     %al, gdt + 28
        mov     %ah, gdt + 31
        mov     $24, %eax
        ltr     %ax
        xor     %ecx, %ecx                      # every exception panics
        mov     $panic, %eax
2:      call    set_gate
        inc     %ecx
        cmp     $32, %ecx
        jne     2b
        mov     $6, %ecx
        mov     $warning, %eax
        call    set_gate
        mov     $2, %ecx
        mov     $nmi, %eax
        call    set_gate
#ifndef FIXED
        movb    $1, idt + 2 * 16 + 4            # on the stack IST 1, always from its top
#endif
        lidt    idt_pointer
        mov     $hello, %esi
3:      movzbl  (%rsi), %eax
        inc     %esi
        test    %al, %al
        jz      work
        mov     $0x3f8, %edx
        out     %al, %dx
        jmp     3b

# The work: every register is in use, and a changed one changes the sum for good.
        .globl  work
work:   add     %rax, %rbx
        rol     $7, %rbx
        xor     %rbx, %rcx
        lea     1(%rcx, %rdx), %rdx
        add     %rdx, %rsi
        xor     %rsi, %rdi
        add     %rdi, %r8
        xor     %r8, %r9
        push    %r9
        pop     %rax
        jmp     work

# A gate of the IDT: vector ECX goes to EAX.
set_gate:
        mov     %ecx, %edi
        shl     $4, %edi
        mov     %ax, idt(%rdi)
        movl    $8, idt + 2(%rdi)
        movb    $0x8e, idt + 5(%rdi)
        mov     %eax, %edx
        shr     $16, %edx
        mov     %dx, idt + 6(%rdi)
        ret

        .globl  nmi, nmi_body, warning, panic
nmi:    push    %rax
        push    %rcx
        cld
        call    nmi_body
        pop     %rcx
        pop     %rax
        iretq

nmi_body:
        incl    nmi_count
        ud2                                     # WARN()
        mov     $16, %ecx
4:      dec     %ecx
        jnz     4b
        ret

warning:
        addq    $2, (%rsp)                      # behind the UD2
        iretq

panic:  cli
        hlt
        jmp     panic

        .data
        .balign 8
gdt:    .quad   0, 0x00af9a000000ffff, 0x00cf92000000ffff
        .word   103, 0, 0x8900, 0               # the TSS, in 16 bytes
        .quad   0
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .quad   gdt
idt_pointer:
        .word   32 * 16 - 1
        .quad   idt
hello:  .asciz  "os: a kernel of its own\n"
        .globl  nmi_count
        .balign 4
nmi_count:
        .long   0
        .balign 16
tss:    .long   0
        .quad   STACK, 0, 0, 0
        .quad   NMI_STACK                       # IST 1
        .skip   60
        .bss
        .balign 16
idt:    .skip   32 * 16
