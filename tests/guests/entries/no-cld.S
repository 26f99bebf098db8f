/* The body is called with the DF of the interrupted code. With STRING the entry itself moves the
 * frame by a string instruction; with CLD it clears DF before. */
#include "entry.h"
    ENTER
#ifdef STRING
    movq %rdi, %rsi
    subq $176, %rsp
    movq %rsp, %rdi
    movl $21, %ecx
#ifdef CLD
    cld
#endif
    rep movsq
    cld
    movq %rsp, %rdi
#endif
    call nmi_body
#ifdef STRING
    addq $176, %rsp
#endif
    LEAVE
