/* The bit is in CR8, which KVM keeps apart from the other control registers. */
.macro LOAD
    movq %cr8, %rax
.endm
.macro STORE
    movq %rax, %cr8
.endm
#include "hidden.h"
