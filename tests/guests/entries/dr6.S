/* The handler takes a single-step trap's mark into DR6 and does not give it back: a #DB handler
 * that it interrupts before that reads DR6 sees it. */
#include "entry.h"
NMI_LAB_NOTE("scheme custom uses=debug summary=\"it writes a debug register\"")
    ENTER
    cld
    call nmi_body
    movl $0xffff4ff0, %eax          /* BS */
    movq %rax, %dr6
    LEAVE
