/* The NMI lab's contract with a guest image, for C and for assembly (.S).
 *
 * docs/guest-abi.md explains it; guest/src/abi.rs is the original, and a test
 * compares the two. Copy this file into your own tree: it needs nothing else.
 */
#ifndef NMI_LAB_H
#define NMI_LAB_H

/* The image. */
#define NMI_LAB_ABI_VERSION 1
#define NMI_LAB_IMAGE_MIN_PADDR 0x100000
#define NMI_LAB_DEFAULT_RAM 0x800000
#define NMI_LAB_NOTE_NAME "NMI-LAB"
#define NMI_LAB_NOTE_TYPE_MANIFEST 1

/* Hypercalls: `out %eax, $PORT`, arguments in RDI and RSI. */
#define NMI_LAB_PORT_READY 0xe0        /* the run begins behind it */
#define NMI_LAB_PORT_BODY_BEGIN 0xe1   /* RDI: struct nmi_lab_regs * */
#define NMI_LAB_PORT_BODY_END 0xe2
#define NMI_LAB_PORT_SCENARIO_END 0xe3 /* RDI: checksum of the work */
#define NMI_LAB_PORT_PANIC 0xe4        /* RDI: UTF-8 text, RSI: its bytes */
#define NMI_LAB_PORT_PV 0xe8           /* RAX: number, arguments as Xen's */
#define NMI_LAB_PORT_ERETS 0xe9        /* RSP: struct nmi_lab_fred_frame * */

/* PV hypercalls (mode pv only); numbers and structures are Xen's. */
#define NMI_LAB_HYPERCALL_STUB_CALL 5 /* in a stub of the hypercall page: the call's offset */
#define NMI_LAB_HYPERCALL_STACK_SWITCH 3
#define NMI_LAB_HYPERCALL_IRET 23
#define NMI_LAB_HYPERCALL_SET_SEGMENT_BASE 25 /* RDI: SEGBASE_*, RSI: the base */
#define NMI_LAB_HYPERCALL_MMUEXT_OP 26
#define NMI_LAB_HYPERCALL_NMI_OP 28
#define NMI_LAB_HYPERCALL_CALLBACK_OP 30
#define NMI_LAB_HYPERCALL_FRED_CONFIG 55 /* the lab's own, not Xen's */
#define NMI_LAB_CALLBACKOP_REGISTER 0
#define NMI_LAB_CALLBACKOP_UNREGISTER 1
#define NMI_LAB_CALLBACKTYPE_EVENT 0
#define NMI_LAB_CALLBACKTYPE_FAILSAFE 1
#define NMI_LAB_CALLBACKTYPE_SYSCALL 2
#define NMI_LAB_CALLBACKTYPE_NMI 4
#define NMI_LAB_CALLBACKF_MASK_EVENTS 1
#define NMI_LAB_CALLBACKF_EXPLICIT_UNMASK 0x8000 /* the lab's own, not Xen's */
#define NMI_LAB_XENNMI_REGISTER_CALLBACK 0
#define NMI_LAB_XENNMI_UNREGISTER_CALLBACK 1
#define NMI_LAB_SEGBASE_FS 0
#define NMI_LAB_SEGBASE_GS_USER 1 /* exchanged on the way to and from user mode */
#define NMI_LAB_SEGBASE_GS_KERNEL 2
#define NMI_LAB_MMUEXT_NEW_USER_BASEPTR 15
#define NMI_LAB_VGCF_IN_SYSCALL 0x100
#define NMI_LAB_IRET_UNMASK_NMI 0x10000 /* the lab's own, not Xen's */
#define NMI_LAB_FRED_SS_NMI 0x40000
#define NMI_LAB_FRED_CS_LEVEL_SHIFT 16

/* struct nmi_lab_regs: what an NMI body is shown; Linux's pt_regs. */
#define NMI_LAB_REGS_R15 0
#define NMI_LAB_REGS_R14 8
#define NMI_LAB_REGS_R13 16
#define NMI_LAB_REGS_R12 24
#define NMI_LAB_REGS_RBP 32
#define NMI_LAB_REGS_RBX 40
#define NMI_LAB_REGS_R11 48
#define NMI_LAB_REGS_R10 56
#define NMI_LAB_REGS_R9 64
#define NMI_LAB_REGS_R8 72
#define NMI_LAB_REGS_RAX 80
#define NMI_LAB_REGS_RCX 88
#define NMI_LAB_REGS_RDX 96
#define NMI_LAB_REGS_RSI 104
#define NMI_LAB_REGS_RDI 112
#define NMI_LAB_REGS_ERROR 120
#define NMI_LAB_REGS_FRAME 128
#define NMI_LAB_REGS_SIZE 168

/* struct nmi_lab_frame: what the CPU pushes and iretq pops. */
#define NMI_LAB_FRAME_RIP 0
#define NMI_LAB_FRAME_CS 8
#define NMI_LAB_FRAME_RFLAGS 16
#define NMI_LAB_FRAME_RSP 24
#define NMI_LAB_FRAME_SS 32
#define NMI_LAB_FRAME_SIZE 40

/* struct nmi_lab_iret_context: at RSP when HYPERCALL_IRET is made. */
#define NMI_LAB_IRET_RAX 0
#define NMI_LAB_IRET_R11 8
#define NMI_LAB_IRET_RCX 16
#define NMI_LAB_IRET_FLAGS 24
#define NMI_LAB_IRET_FRAME 32
#define NMI_LAB_IRET_SIZE 72

#ifdef __ASSEMBLER__

/* NMI_LAB_NOTE("scheme …"): one line of the manifest. */
#define NMI_LAB_NOTE(text)                                                     \
    .pushsection .note.nmi_lab, "a", @note;                                    \
    .balign 4;                                                                 \
    .long 9992f - 9991f, 9994f - 9993f, NMI_LAB_NOTE_TYPE_MANIFEST;            \
    9991: .asciz NMI_LAB_NOTE_NAME;                                            \
    9992: .balign 4;                                                           \
    9993: .ascii text, "\n";                                                   \
    9994: .balign 4;                                                           \
    .popsection

/* The fifteen registers of struct nmi_lab_regs. RSP -> a word for `error`, with
 * the frame above it; afterwards RSP -> struct nmi_lab_regs. */
.macro NMI_LAB_PUSH_REGS
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

/* The reverse. Leaves RFLAGS alone. */
.macro NMI_LAB_POP_REGS
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
.endm

#else /* C */

#define NMI_LAB_NOTE(text)                                                     \
    __asm__(".pushsection .note.nmi_lab, \"a\", @note\n"                       \
            ".balign 4\n"                                                      \
            ".long 8, 9994f - 9993f, 1\n"                                      \
            ".asciz \"NMI-LAB\"\n"                                             \
            "9993: .ascii " #text ", \"\\n\"\n"                                \
            "9994: .balign 4\n"                                                \
            ".popsection")

typedef unsigned long nmi_lab_u64;

struct nmi_lab_frame {
    nmi_lab_u64 rip, cs, rflags, rsp, ss;
};

struct nmi_lab_regs {
    nmi_lab_u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    nmi_lab_u64 rax, rcx, rdx, rsi, rdi, error;
    struct nmi_lab_frame frame;
};

struct nmi_lab_iret_context {
    nmi_lab_u64 rax, r11, rcx, flags;
    struct nmi_lab_frame frame;
};

struct nmi_lab_callback_register {
    unsigned short kind, flags;
    unsigned int pad;
    nmi_lab_u64 address;
};

/* FRED as the VMM plays it, after HYPERCALL_FRED_CONFIG. */
struct nmi_lab_fred_config {
    nmi_lab_u64 config, levels, rsp[4];
};

struct nmi_lab_fred_frame {
    nmi_lab_u64 error;
    struct nmi_lab_frame frame;
    nmi_lab_u64 data, reserved;
};

/* The memory clobber keeps stores before the call, where the VMM sees them. */
#define NMI_LAB_CALL(port, rdi, rsi)                                           \
    __asm__ volatile("outl %%eax, %0"                                          \
                     :: "i"(port), "D"((nmi_lab_u64)(rdi)),                    \
                        "S"((nmi_lab_u64)(rsi)) : "memory")

static inline void nmi_lab_ready(void)
{
    NMI_LAB_CALL(NMI_LAB_PORT_READY, 0, 0);
}

static inline void nmi_lab_body_begin(const struct nmi_lab_regs *regs)
{
    NMI_LAB_CALL(NMI_LAB_PORT_BODY_BEGIN, regs, 0);
}

static inline void nmi_lab_body_end(void)
{
    NMI_LAB_CALL(NMI_LAB_PORT_BODY_END, 0, 0);
}

static inline void nmi_lab_scenario_end(nmi_lab_u64 checksum)
{
    NMI_LAB_CALL(NMI_LAB_PORT_SCENARIO_END, checksum, 0);
}

static inline void nmi_lab_panic(const char *text, nmi_lab_u64 bytes)
{
    NMI_LAB_CALL(NMI_LAB_PORT_PANIC, text, bytes);
}

/* Mode pv: registers the NMI handler; 0, or a negative error number. Flags: 0, or
 * NMI_LAB_CALLBACKF_EXPLICIT_UNMASK. */
static inline long nmi_lab_register_nmi(nmi_lab_u64 handler, unsigned short flags)
{
    struct nmi_lab_callback_register request = { NMI_LAB_CALLBACKTYPE_NMI, flags, 0, handler };
    long rax = NMI_LAB_HYPERCALL_CALLBACK_OP;

    __asm__ volatile("outl %%eax, %1"
                     : "+a"(rax)
                     : "i"(NMI_LAB_PORT_PV), "D"((nmi_lab_u64)NMI_LAB_CALLBACKOP_REGISTER),
                       "S"(&request)
                     : "memory");
    return rax;
}

#endif
#endif
