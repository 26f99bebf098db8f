/* What the kinds of defects use. RDI -> struct nmi_lab_regs wherever a handler calls them. */
#include "nmi_lab.h"

/* The interrupted code gets another R8 back than it had. */
.macro SPOIL
    movq $0xbad, NMI_LAB_REGS_R8(%rdi)
.endm

/* Goes to `other` unless the NMI interrupted the instruction at `place`. */
.macro UNLESS_AT place, other
    cmpq $\place, NMI_LAB_REGS_FRAME(%rdi)
    jne \other
.endm
