//! The memory routines that the compiler may call. They move quadwords, since a
//! byte-wise `rep` costs an emulating KVM a third of a microsecond a byte.

use core::arch::global_asm;

global_asm!(
    r#"
    .text
    # memcpy(rdi: to, rsi: from, rdx: bytes) -> rax: to. Clobbers rcx, rdx, rsi, rdi.
    .globl memcpy
    .type memcpy, @function
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret
    .size memcpy, . - memcpy

    # memmove(rdi: to, rsi: from, rdx: bytes) -> rax: to. Backwards, byte by byte,
    # where `to` lies within the source; clobbers as memcpy, leaves DF clear.
    .globl memmove
    .type memmove, @function
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jae memcpy
    movq %rdi, %rax
    movq %rdx, %rcx
    leaq -1(%rdi,%rdx), %rdi
    leaq -1(%rsi,%rdx), %rsi
    std
    rep movsb
    cld
    ret
    .size memmove, . - memmove

    # memset(rdi: to, esi: byte, rdx: bytes) -> rax: to. Clobbers rcx, rdx, rdi, r8.
    .globl memset
    .type memset, @function
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret
    .size memset, . - memset

    # memcmp, bcmp(rdi: a, rsi: b, rdx: bytes) -> eax: sign of the first difference.
    # Clobbers rcx, rdx.
    .globl memcmp
    .globl bcmp
    .type memcmp, @function
    .type bcmp, @function
memcmp:
bcmp:
    xorl %ecx, %ecx
1:  cmpq %rdx, %rcx
    jae 2f
    movzbl (%rdi,%rcx), %eax
    cmpb (%rsi,%rcx), %al
    jne 3f
    incq %rcx
    jmp 1b
2:  xorl %eax, %eax
    ret
3:  sbbl %eax, %eax
    orl $1, %eax
    ret
    .size memcmp, . - memcmp
    .size bcmp, . - bcmp
"#,
    options(att_syntax)
);
