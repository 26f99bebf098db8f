/* FRED, as the VMM plays it: a return unblocks NMIs where its frame's NMI bit is set. The body's
 * fault comes by the IDT and is turned into a FRED frame. `early`: the fault's frame has the bit,
 * too. `lost`: the NMI's own return has it no more. */
#include "guest.h"
NMI_LAB_NOTE("abi 1")
NMI_LAB_NOTE("ram 8388608")
NMI_LAB_NOTE("stack main low=main_low high=main_high")
NMI_LAB_NOTE("stack nmi low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scratch low=nmi_low high=nmi_high")
NMI_LAB_NOTE("scheme right mode=pv arg=right entry=fred_entry summary=\"leaves the bit alone\"")
NMI_LAB_NOTE("scheme early mode=pv arg=early entry=fred_entry summary=\"a fault's return has the bit\"")
NMI_LAB_NOTE("scheme lost mode=pv arg=lost entry=fred_entry summary=\"the NMI's return has it no more\"")
NMI_LAB_NOTE("scenario add arg=work summary=\"adds numbers; the body raises #UD\"")
    .text
    BEGIN main_high
    movq (%r12), %rax
    movq %rax, in_fault
    movq 8(%r12), %rax
    movq %rax, in_nmi
    movq $fault, %rax
    GATE 6
    movl $NMI_LAB_HYPERCALL_FRED_CONFIG, %eax
    movq $config, %rdi
    outl %eax, $NMI_LAB_PORT_PV
    testq %rax, %rax
    jnz undeclared
    RUN
    STACK main
    STACK nmi
work:
    movl $3, %ecx
    xorl %eax, %eax
1:  addl %ecx, %eax
    decl %ecx
    jnz 1b
    ret
fault:
    addq $2, (%rsp)                 /* past the ud2 */
    pushq $0
    orq $0x20000, 16(%rsp)          /* CS slot: stack level 2 */
    pushq %rax
    movq in_fault, %rax
    orq %rax, 8 + 40(%rsp)          /* SS slot */
    popq %rax
    outl %eax, $NMI_LAB_PORT_ERETS
    hlt
    .balign 4096, 0xf4
fred_page:                          /* entry from ring 3, 256 bytes before that from ring 0 */
    .fill 256, 1, 0xf4
fred_entry:
    NMI_LAB_PUSH_REGS
    movq %rsp, %rdi
    outl %eax, $NMI_LAB_PORT_BODY_BEGIN
    ud2
    outl %eax, $NMI_LAB_PORT_BODY_END
    movq in_nmi, %rax
    andq %rax, NMI_LAB_REGS_FRAME + NMI_LAB_FRAME_SS(%rsp)
    NMI_LAB_POP_REGS
    outl %eax, $NMI_LAB_PORT_ERETS
    hlt
    .section .rodata, "a"
    .balign 8
right:
    .quad 0, -1
early:
    .quad NMI_LAB_FRED_SS_NMI, -1
lost:
    .quad 0, ~NMI_LAB_FRED_SS_NMI
config:
    .quad fred_page, 2 << 4, main_high, 0, nmi_high, 0
    .bss
    .balign 8
in_fault:
    .skip 8
in_nmi:
    .skip 8
