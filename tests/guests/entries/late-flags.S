/* A return by popfq whose flags are those of the entry's own test. */
#include "entry.h"
    .globl nmi_entry
nmi_entry:
    testb $3, 8(%rsp)
    jnz 1f
    pushfq
    popq 16(%rsp)
1:  SAVE
    cld
    call nmi_body
    LEAVE
