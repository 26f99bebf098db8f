/* An entry for the built-in kernel that is right. It writes a part of a dead word, far below its
 * own use of the stack, and leaves the word as it was: that is not stack use. */
#include "entry.h"
    ENTER
    movb $0, -1024(%rsp)
    LEAVE
