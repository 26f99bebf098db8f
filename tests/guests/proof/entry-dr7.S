/* An entry for the built-in kernel. DR7 is changed and not given back. */
#include "entry.h"
NMI_LAB_NOTE("scheme custom uses=debug summary=\"it writes a debug register\"")
    ENTER
    movl $0x401, %eax
    movq %rax, %dr7
    LEAVE
