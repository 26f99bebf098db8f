/* The bit is in XMM0. */
.macro SSE_ON
    movq %cr4, %rdx
    movq %rdx, %rcx
    orl $0x200, %ecx                /* OSFXSR */
    movq %rcx, %cr4
    subq $16, %rsp
.endm
.macro SSE_OFF
    addq $16, %rsp
    movq %rdx, %cr4
.endm
.macro LOAD
    SSE_ON
    movdqu %xmm0, (%rsp)
    movl (%rsp), %eax
    SSE_OFF
.endm
.macro STORE
    SSE_ON
    movq %rax, (%rsp)
    movq $0, 8(%rsp)
    movdqu (%rsp), %xmm0
    SSE_OFF
.endm
#include "hidden.h"
