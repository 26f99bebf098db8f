/* The bit is DR7's L0. */
.macro LOAD
    movq %dr7, %rax
    andl $1, %eax
.endm
.macro STORE
    orl $0x400, %eax
    movq %rax, %dr7
.endm
#include "hidden.h"
