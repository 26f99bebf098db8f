/* The bit is in XMM0. */
.macro WITH_SSE code:vararg
    movq %cr4, %rdx
    movq %rdx, %rcx
    orl $0x200, %ecx                /* OSFXSR */
    movq %rcx, %cr4
    subq $16, %rsp
    \code
    addq $16, %rsp
    movq %rdx, %cr4
.endm
.macro LOAD
    WITH_SSE movdqu %xmm0, (%rsp); movl (%rsp), %eax
.endm
.macro STORE
    WITH_SSE movq %rax, (%rsp); movq $0, 8(%rsp); movdqu (%rsp), %xmm0
.endm
#include "hidden.h"
