/* Mode pv. Each NMI registers the callback from a structure on the stack, which only the hypervisor
 * reads, and then changes the structure. The third NMI goes to kind.spoiling. */
#include "kind.h"
    .globl on_nmi
on_nmi:
    movl $NMI_LAB_HYPERCALL_CALLBACK_OP, %eax
    xorl %edi, %edi
    movq $request, %rsi
    outl %eax, $NMI_LAB_PORT_PV
    movq $kind.spoiling, request + 8
    ret
