/* A hypervisor's bounce frame is taken for a hardware frame: RCX and R11 below it are not taken
 * off. */
#include "entry.h"
NMI_LAB_NOTE("scheme custom mode=pv summary=\"takes a bounce frame for a hardware frame\"")
    ENTER
    movq %rsp, %rbx
    andq $-16, %rsp
    cld
    call nmi_body
    movq %rbx, %rsp
    RESTORE
    addq $8, %rsp
    pushq $0x10000
    pushq %rcx
    pushq %r11
    pushq %rax
    movl $NMI_LAB_HYPERCALL_IRET, %eax
    outl %eax, $NMI_LAB_PORT_PV
    hlt
