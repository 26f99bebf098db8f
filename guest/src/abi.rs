//! The contract between a guest image and the VMM.
//!
//! Nothing here is private to the built-in micro-kernel: any ELF64 image that
//! follows it can be tested. The contract has four parts.
//!
//! 1. **The image**: a static ELF64 for x86-64 whose `PT_LOAD` segments have
//!    physical addresses at or above [`IMAGE_MIN_PADDR`]. What a run may write
//!    after *ready* is what lies in writable segments.
//! 2. **Entry**: 64-bit mode, interrupts off, RAM identity-mapped and every
//!    segment mapped at its virtual address by tables that the VMM built below
//!    [`IMAGE_MIN_PADDR`]. RDI holds the value of the scheme's `arg` symbol, RSI
//!    that of the scenario's, RDX the RAM size in bytes. There is no stack.
//! 3. **Hypercalls**: `out %eax, $PORT_…`; arguments in RDI and RSI; no
//!    register changes, except where a PV operation says so.
//! 4. **The manifest**: lines of text in ELF notes (see [`NOTE_NAME`]) that
//!    declare schemes, scenarios, stacks and scratch memory by symbol name.

/// Version of this contract; the manifest's `abi` line must say the same.
pub const ABI_VERSION: u32 = 1;

/// Lowest physical address an image may load at. Below it lie the page tables
/// and descriptor tables that the VMM boots the image with.
pub const IMAGE_MIN_PADDR: u64 = 0x10_0000;

/// RAM given to an image whose manifest has no `ram` line, in bytes.
pub const DEFAULT_RAM: u64 = 8 << 20;

/// Owner name of the manifest's ELF notes (section `.note.nmi_lab`).
///
/// The descriptor is UTF-8 text, one declaration a line; `#` starts a comment.
/// A line is a keyword, then words and `key=value` pairs; a value may be
/// quoted. All notes of an image are read as one text, in any order:
///
/// ```text
/// abi 1
/// ram 8388608
/// scheme naive [ring3] [kpti] [fred] mode=native arg=SCHEME_NAIVE entry=naive.entry prefix=naive.
///        [repeat=naive.repeat,…] [faults=gp@naive.exit_iret,…]
///        [resumes=LOW..HIGH@SYMBOL,…] [relies=ac,dr7] [body_msr=NUMBER:VALUE,…]
///        [uses=debug,vector] [idle=SYMBOL[:BYTES],…] [broken=I5] [gallery=COMMIT] [summary="…"]
/// scenario quiet arg=scenario_quiet [redzone] [ring3] [native] [kpti] [breakpoints] [faults=np,…]
///        [halts=SYMBOL,…] [needs=ldt-ss16] [traps=db@SYMBOL,…]
///        [uses=debug,vector] [summary="…"]
/// stack nmi low=nmi_stack_low high=nmi_stack_high [user=SYMBOL]
/// alias low=SYMBOL high=SYMBOL
/// code32 low=SYMBOL high=SYMBOL
/// scratch low=SYMBOL high=SYMBOL [scheme=NAME]
/// hypercalls page=SYMBOL
/// body rsp=N
/// pagetables kernel=ROOT,… user=ROOT,…
/// ```
///
/// A scenario with `ring3` runs code at CPL3; it is not run with a scheme of mode pv
/// that does not say `ring3` as well; one with `kpti`, whose user code has page tables of its own,
/// only with a scheme that says `kpti`; one with `native` with none of mode pv. In one
/// with `breakpoints` a #DB may come anywhere (`db@`). `halts` are the HLTs at which it waits for an
/// event; the VMM wakes it.
///
/// `uses` are registers that cost time to read and are read in no other run, as soon as one line
/// says so: debug registers, and those of the x87 and vector units. `relies` and `body_msr` are what
/// the body may count on. With `fred` an entry that is linked in is FRED's.
///
/// A stack is empty below `user` while user code runs, and at the scenario's end. That which
/// interrupts of user code begin on is so in any case while it runs.
///
/// `resumes` says that an NMI which interrupts `LOW..HIGH` may go on at the symbol instead, with
/// every other register as it was. `body rsp=N` says what RSP is modulo 16 at
/// [`PORT_BODY_BEGIN`]. `pagetables` are the roots of a kernel that keeps a page table apart
/// for user code: symbols, or physical addresses with `0x`.
///
/// A declaration must stand on one line (it is broken above to fit the page).
/// Wherever a symbol stands, `SYMBOL+0xOFFSET` may.
pub const NOTE_NAME: &str = "NMI-LAB";

/// `n_type` of a manifest note.
pub const NOTE_TYPE_MANIFEST: u32 = 1;

/// The guest is initialised: the VMM takes its snapshot here, and the run
/// begins with the instruction after this one.
pub const PORT_READY: u8 = 0xe0;
/// An NMI body begins. RDI: address of the [`Regs`] that the entry code saved.
pub const PORT_BODY_BEGIN: u8 = 0xe1;
/// The NMI body ends.
pub const PORT_BODY_END: u8 = 0xe2;
/// The scenario is over. RDI: a checksum over the work it did.
pub const PORT_SCENARIO_END: u8 = 0xe3;
/// The guest gives up. RDI: address of a UTF-8 message, RSI: its bytes.
pub const PORT_PANIC: u8 = 0xe4;
/// A PV hypercall. RAX: its number ([`HYPERCALL_IRET`], …), arguments as Xen
/// passes them (RDI, RSI, RDX, R10, R8), result in RAX. `HYPERVISOR_iret` has no
/// result: it resumes the context in its frame. Only in mode `pv`.
///
/// Where the manifest has `hypercalls page=SYMBOL`, that page holds 128 stubs of 32 bytes,
/// `mov $number, %eax` (5 bytes), the OUT, `ret`; and a VMM may have KVM write Xen's own
/// stubs over them (`KVM_CAP_XEN_HVM`) before the image's first instruction.
pub const PORT_PV: u8 = 0xe8;

/// ERETS, as FRED has it, played by the VMM (mode `pv`, after
/// [`HYPERCALL_FRED_CONFIG`]). RSP: address of a [`FredFrame`]; no argument in a
/// register, since all are the resumed context's.
pub const PORT_ERETS: u8 = 0xe9;

/// ERETU, likewise: the return to user mode.
pub const PORT_ERETU: u8 = 0xea;

/// The registers an NMI body is shown, in the order of Linux's `pt_regs`
/// (lowest address first). Entry code builds it and passes its address with
/// [`PORT_BODY_BEGIN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the registers' own names
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Error code of the exception; for an NMI a word that nobody reads.
    pub error: u64,
    pub frame: Frame,
}

/// The five words that the CPU pushes on delivery and `iretq` pops.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the registers' own names
pub struct Frame {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The frame of `HYPERVISOR_iret`: Xen's `struct iret_context`
/// (xen/include/public/arch-x86/xen-x86_64.h), nine words at the caller's RSP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the registers' own names
pub struct IretContext {
    pub rax: u64,
    pub r11: u64,
    pub rcx: u64,
    /// [`VGCF_IN_SYSCALL`], [`IRET_UNMASK_NMI`].
    pub flags: u64,
    pub frame: Frame,
}

const _: () = assert!(size_of::<Frame>() == 40);
const _: () = assert!(size_of::<Regs>() == 168);
const _: () = assert!(core::mem::offset_of!(Regs, frame) == 128);
const _: () = assert!(size_of::<IretContext>() == 72);
const _: () = assert!(core::mem::offset_of!(IretContext, frame) == 32);

/// For an entry that is linked into the built-in kernel (`--entry`): offset from the kernel's GS base
/// of the word with the top of the thread's stack, which is empty while user code runs.
pub const ENTRY_THREAD_SP: u64 = 0x28;
/// Likewise: the top of a small stack that both page tables of a process map, for the last
/// instructions before user code.
pub const ENTRY_TRAMPOLINE_SP: u64 = 0x50;
/// Likewise: the bit of CR3 that says that the page table is the user's. The kernel's of the same
/// process has it clear. Where a process has but one table it is always clear.
pub const ENTRY_USER_TABLE: u64 = 0x20_0000;

/// Where the instruction that makes the call stands in a stub of the hypercall page.
pub const HYPERCALL_STUB_CALL: u64 = 5;

/// `__HYPERVISOR_stack_switch` (xen/include/public/xen.h).
pub const HYPERCALL_STACK_SWITCH: u64 = 3;
/// `__HYPERVISOR_mmuext_op` (xen/include/public/xen.h); of its commands there is
/// `MMUEXT_NEW_USER_BASEPTR`.
pub const HYPERCALL_MMUEXT_OP: u64 = 26;
/// `__HYPERVISOR_iret` (xen/include/public/xen.h).
pub const HYPERCALL_IRET: u64 = 23;
/// `__HYPERVISOR_set_segment_base` (xen/include/public/xen.h): RDI is `SEGBASE_…`, RSI
/// the base.
pub const HYPERCALL_SET_SEGMENT_BASE: u64 = 25;
/// `SEGBASE_FS` (xen/include/public/xen.h).
pub const SEGBASE_FS: u64 = 0;
/// `SEGBASE_GS_USER`: GS's base in user mode; the hypervisor exchanges it on the ring
/// switch.
pub const SEGBASE_GS_USER: u64 = 1;
/// `SEGBASE_GS_KERNEL`.
pub const SEGBASE_GS_KERNEL: u64 = 2;
/// `MMUEXT_NEW_USER_BASEPTR` (xen/include/public/xen.h): the operation sets the root of
/// the page table for user mode.
pub const MMUEXT_NEW_USER_BASEPTR: u64 = 15;
/// `__HYPERVISOR_nmi_op` (xen/include/public/xen.h).
pub const HYPERCALL_NMI_OP: u64 = 28;
/// `__HYPERVISOR_callback_op` (xen/include/public/xen.h).
pub const HYPERCALL_CALLBACK_OP: u64 = 30;
/// `CALLBACKOP_register` (xen/include/public/callback.h): RDI of `callback_op`;
/// RSI points to a [`CallbackRegister`].
pub const CALLBACKOP_REGISTER: u64 = 0;
/// `CALLBACKOP_unregister` (xen/include/public/callback.h): only an NMI's callback
/// can be taken back.
pub const CALLBACKOP_UNREGISTER: u64 = 1;
/// `CALLBACKTYPE_event` (xen/include/public/callback.h).
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// `CALLBACKTYPE_failsafe` (xen/include/public/callback.h).
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// `CALLBACKTYPE_syscall` (xen/include/public/callback.h).
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// `CALLBACKTYPE_nmi` (xen/include/public/callback.h).
pub const CALLBACKTYPE_NMI: u16 = 4;
/// `CALLBACKF_mask_events` (xen/include/public/callback.h).
pub const CALLBACKF_MASK_EVENTS: u16 = 1 << 0;
/// **Extension of this project, not Xen's**: registered with an NMI's callback, it
/// says that `HYPERVISOR_iret` unmasks NMIs only where the frame's flags have
/// [`IRET_UNMASK_NMI`]. Without it every iret hypercall unmasks, as Xen's does.
pub const CALLBACKF_EXPLICIT_UNMASK: u16 = 1 << 15;
/// `XENNMI_register_callback` (xen/include/public/nmi.h): RDI of `nmi_op`; RSI
/// points to a `struct xennmi_callback`: the handler's address and a word of padding.
pub const XENNMI_REGISTER_CALLBACK: u64 = 0;
/// `XENNMI_unregister_callback` (xen/include/public/nmi.h).
pub const XENNMI_UNREGISTER_CALLBACK: u64 = 1;

/// `struct callback_register` (xen/include/public/callback.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_…`.
    pub kind: u16,
    /// `CALLBACKF_…`.
    pub flags: u16,
    /// Explicit padding, zero.
    pub pad: u32,
    /// Address of the handler.
    pub address: u64,
}

const _: () = assert!(size_of::<CallbackRegister>() == 16);

/// `struct mmuext_op` (xen/include/public/xen.h): RDI of `mmuext_op` points to it, RSI is
/// how many there are (one).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmuextOp {
    /// [`MMUEXT_NEW_USER_BASEPTR`].
    pub cmd: u32,
    /// Explicit padding, zero.
    pub pad: u32,
    /// Number of the root's page frame.
    pub mfn: u64,
    /// Not used.
    pub arg2: u64,
}

const _: () = assert!(size_of::<MmuextOp>() == 24);

/// `VGCF_in_syscall` (xen/include/public/arch-x86/xen-x86_64.h): the frame is that
/// of a system call: RAX, RIP, RFLAGS and RSP are restored from it, and R11, RCX, CS
/// and SS are discarded.
pub const VGCF_IN_SYSCALL: u64 = 1 << 8;

/// **Extension of this project, not Xen's**: a bit in `iret_context.flags` that
/// asks the hypercall to unmask NMIs; it counts where the callback was registered
/// with [`CALLBACKF_EXPLICIT_UNMASK`]. The flag the LKML thread speaks of was bit 31
/// of the saved EFLAGS, and private to XenLinux.
pub const IRET_UNMASK_NMI: u64 = 1 << 16;

/// **Extension of this project, not Xen's** (the last number that Xen leaves to
/// architectures, `__HYPERVISOR_arch_7`): from now on NMIs, and SYSCALLs of ring 3, are
/// delivered as FRED does; faults go through the IDT still. RDI points to a
/// [`FredConfig`]. IA32_STAR, which has the selectors, is set before.
pub const HYPERCALL_FRED_CONFIG: u64 = 55;

/// FRED's configuration MSRs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FredConfig {
    /// `IA32_FRED_CONFIG`: the entry page in bits 63:12 (events of CPL3 enter at its first
    /// byte, those of CPL0 at byte 256), the bytes to skip on the interrupted stack in bits 8:6.
    pub config: u64,
    /// `IA32_FRED_STKLVLS`: two bits for each of vectors 0 to 31.
    pub levels: u64,
    /// `IA32_FRED_RSP0` to `IA32_FRED_RSP3`.
    pub rsp: [u64; 4],
}

/// What FRED pushes, lowest address first. ERETS reads all but the last two words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FredFrame {
    /// Error code, 0 where there is none.
    pub error: u64,
    /// RIP, CS, RFLAGS, RSP, SS. The CS slot has the stack level in bits 17:16, the
    /// SS slot [`FRED_SS_NMI`] and what happened: vector and type.
    pub frame: Frame,
    /// CR2, DR6, … by event.
    pub data: u64,
    /// Zero.
    pub reserved: u64,
}

/// The SS slot's bit that makes ERETS and ERETU unblock NMIs: set by an NMI's delivery only.
pub const FRED_SS_NMI: u64 = 1 << 18;

/// Where the CS slot of a [`FredFrame`] keeps the interrupted stack level.
pub const FRED_CS_LEVEL_SHIFT: u32 = 16;

const _: () = assert!(size_of::<FredConfig>() == 48);
const _: () = assert!(size_of::<FredFrame>() == 64);
