/* The handler's frame is larger than the NMI stack, under which there is no guard page. */
#include "entry.h"
    ENTER
    cld
    movq %rsp, %rbx
    subq $4096, %rsp
    call nmi_body
    movq %rbx, %rsp
    LEAVE
