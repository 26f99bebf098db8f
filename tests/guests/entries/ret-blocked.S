/* Leaves the NMI by popfq and ret on the interrupted stack, as a switch to another task does. */
#include "entry.h"
    ENTER
    cld
    call nmi_body
    popq %rax
    movq %rax, %cr2
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RSP(%rsp), %rax
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RIP(%rsp), %rdx
    movq %rdx, -8(%rax)
    movq NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_RFLAGS(%rsp), %rdx
    movq %rdx, -16(%rax)
    subq $16, %rax
    movq %rax, NMI_LAB_REGS_ERROR(%rsp)
    NMI_LAB_POP_REGS
    popq %rsp
    popfq
    ret
