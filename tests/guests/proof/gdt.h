/* COPY_GDT `to`: the descriptors that the VMM made, code and data, and data once more. */
.macro COPY_GDT to
    sgdt \to
    movq \to + 2, %rsi
    movq 8(%rsi), %rax
    movq %rax, \to + 8
    movq 16(%rsi), %rax
    movq %rax, \to + 16
    movq %rax, \to + 24
    movq $0, \to
.endm
