/* The body's length is measured, and nothing is done with it. With RDMSR no instruction of the
 * code says so: which register is read is known at run time only. */
#include "entry.h"
    ENTER
    cld
#ifdef RDMSR
    movl $0x10, %ecx                /* IA32_TIME_STAMP_COUNTER */
    rdmsr
#else
    rdtsc
#endif
    call nmi_body
    LEAVE
