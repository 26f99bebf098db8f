/* IA32_SPEC_CTRL as Linux's entry sets it: the kernel's value while the body runs, and then the one
 * that was found. With LOST the kernel's stays. */
#include "entry.h"
    ENTER
    cld
    movl $0x48, %ecx
    rdmsr
    movl %eax, %ebx
    orl $1, %eax                    /* IBRS */
    wrmsr
    call nmi_body
#ifndef LOST
    movl $0x48, %ecx
    movl %ebx, %eax
    xorl %edx, %edx
    wrmsr
#endif
    LEAVE
