/* An entry that leaves the NMI stack at once for one of its own, which its notes declare. With
 * UNDECLARED they do not. */
#include "entry.h"
NMI_LAB_NOTE("scratch low=own_low high=own_high")
#ifndef UNDECLARED
NMI_LAB_NOTE("stack own low=own_low high=own_high")
#endif
    .text
    .globl nmi_entry
nmi_entry:
    pushq %rax
    movq %rsp, %rax
    movq $own_high, %rsp
    .irp word, 40, 32, 24, 16, 8
    pushq \word(%rax)
    .endr
    movq (%rax), %rax
    SAVE
    cld
    call nmi_body
    LEAVE
    .bss
    .balign 16
own_low:
    .skip 960
own_high:
