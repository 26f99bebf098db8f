/* The bit is in RAM that no segment of the image has. */
.macro LOAD
    movl 0x180000, %eax
.endm
.macro STORE
    movl %eax, 0x180000
.endm
#include "hidden.h"
