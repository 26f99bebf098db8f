/* A sequence that is begun again where an NMI interrupts it, as restartable sequences are: the
 * work and the body change one word, each its half. RESUMES or REPEAT declares it; without them the
 * lab must object. WRONG goes on one instruction too late, LATE begins it again when it is done. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("scratch low=word high=word+8")
#ifdef RESUMES
NMI_LAB_NOTE("scheme again arg=entry entry=entry resumes=sequence..sequence_end@sequence summary=\"begins the sequence again\"")
#elif defined REPEAT
NMI_LAB_NOTE("scheme again arg=entry entry=entry repeat=sequence summary=\"begins the sequence again\"")
#else
NMI_LAB_NOTE("scheme again arg=entry entry=entry summary=\"begins the sequence again\"")
#endif
NMI_LAB_NOTE("scenario add arg=work summary=\"a read-modify-write that the body does, too\"")
    .text
    BEGIN main_high
    RUN
    STACK main
work:
    movl $2, %ecx
sequence:
    movq word, %rax
sequence_second:
    incl %eax
    movq %rax, word
sequence_end:
    decl %ecx
    jnz sequence
    movl word, %eax
    ret
entry:
    SAVE
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    movl $1, word + 4
    outl %eax, $NMI_LAB_PORT_BODY_END
    movq NMI_LAB_REGS_FRAME(%rsp), %rax
    cmpq $sequence, %rax
    jbe 1f
#ifdef LATE
    cmpq $sequence_end, %rax
    ja 1f
#else
    cmpq $sequence_end, %rax
    jae 1f
#endif
#ifdef WRONG
    movq $sequence_second, NMI_LAB_REGS_FRAME(%rsp)
#else
    movq $sequence, NMI_LAB_REGS_FRAME(%rsp)
#endif
1:  BACK
    .bss
    .balign 8
word:
    .skip 8
