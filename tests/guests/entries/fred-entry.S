/* An entry of FRED's for the built-in kernel: it begins at byte 256 of a page. With LOST the NMI's
 * own return has the bit no more that unblocks NMIs. */
#include "nmi_lab.h"
NMI_LAB_NOTE("scheme custom fred mode=pv entry=nmi_entry prefix=my. summary=\"FRED, as an object\"")
    .text
    .balign 4096, 0xf4
    .fill 256, 1, 0xf4
    .globl nmi_entry
nmi_entry:
    NMI_LAB_PUSH_REGS
    movq %cr2, %rax
    pushq %rax
    leaq 8(%rsp), %rdi
    call nmi_body
    popq %rax
    movq %rax, %cr2
#ifdef LOST
    andq $~NMI_LAB_FRED_SS_NMI, NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_SS(%rsp)
#endif
    NMI_LAB_POP_REGS
    outl %eax, $NMI_LAB_PORT_ERETS
    hlt
