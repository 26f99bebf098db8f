/* The handler never returns: it spins with NMIs blocked. With COUNT no state of it comes again. */
#include "entry.h"
    .globl nmi_entry
nmi_entry:
#ifdef COUNT
    incq %rax
#else
    nop
#endif
    jmp nmi_entry
