/* The guest's boot has KVM keep a clock in a page of its memory, which its handler reads. */
#include "kind.h"
    .globl prepare, on_nmi
prepare:
    movl $0x4b564d01, %ecx          /* MSR_KVM_SYSTEM_TIME_NEW */
    movl $clock + 1, %eax
    xorl %edx, %edx
    wrmsr
    ret
on_nmi:
    testl $0x3ff000, clock + 16
    jnz 1f
    SPOIL
1:  ret
    .bss
    .balign 64
clock:
    .skip 64
