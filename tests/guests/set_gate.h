/* The gate at RDI leads to RAX: CS 8, an interrupt gate, no IST. RDI moves on to the next.
 * Clobbers RDX and RFLAGS. */
.macro SET_GATE
set_gate:
    movq %rax, %rdx
    movw %dx, (%rdi)
    movl $0x8e000008, 2(%rdi)
    shrq $16, %rdx
    movw %dx, 6(%rdi)
    shrq $16, %rdx
    movl %edx, 8(%rdi)
    addq $16, %rdi
    ret
.endm
