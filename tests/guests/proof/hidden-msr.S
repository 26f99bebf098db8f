/* The bit is in IA32_LSTAR. */
.macro LOAD
    movl $0xc0000082, %ecx
    rdmsr
.endm
.macro STORE
    movl $0xc0000082, %ecx
    xorl %edx, %edx
    wrmsr
.endm
#include "hidden.h"
