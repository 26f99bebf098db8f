//! The state of one x86-64 CPU, as the lab carries it: what an instruction can read or
//! change besides memory.
//!
//! The shapes follow the SDM, with the field names that `linux/kvm.h` gives them, and no
//! type of KVM's. [`crate::kvm`] converts at the border of a `KVM_RUN`.

/// General registers, RIP and RFLAGS (SDM vol. 1, 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

impl Regs {
    /// The general registers, in the order of their names here.
    pub fn general(&self) -> [u64; 16] {
        let r = self;
        [r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15]
    }

    /// General register `n`, in the order of the encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI,
    /// RDI, R8 to R15. Only the low four bits of `n` count.
    #[inline]
    pub fn gpr(&self, n: u8) -> u64 {
        let r = self;
        match n & 15 {
            0 => r.rax,
            1 => r.rcx,
            2 => r.rdx,
            3 => r.rbx,
            4 => r.rsp,
            5 => r.rbp,
            6 => r.rsi,
            7 => r.rdi,
            8 => r.r8,
            9 => r.r9,
            10 => r.r10,
            11 => r.r11,
            12 => r.r12,
            13 => r.r13,
            14 => r.r14,
            _ => r.r15,
        }
    }

    /// The same register, to write.
    #[inline]
    pub fn gpr_mut(&mut self, n: u8) -> &mut u64 {
        let r = self;
        match n & 15 {
            0 => &mut r.rax,
            1 => &mut r.rcx,
            2 => &mut r.rdx,
            3 => &mut r.rbx,
            4 => &mut r.rsp,
            5 => &mut r.rbp,
            6 => &mut r.rsi,
            7 => &mut r.rdi,
            8 => &mut r.r8,
            9 => &mut r.r9,
            10 => &mut r.r10,
            11 => &mut r.r11,
            12 => &mut r.r12,
            13 => &mut r.r13,
            14 => &mut r.r14,
            _ => &mut r.r15,
        }
    }
}

/// A segment register with its hidden part, as the CPU caches it (SDM vol. 3, 3.4.3).
/// The fields after `selector` are those of the descriptor, one bit each where they hold
/// 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Linear address of the segment's first byte.
    pub base: u64,
    /// Offset of its last byte, in bytes whatever the granularity.
    pub limit: u32,
    /// The visible part.
    pub selector: u16,
    /// Type field, 4 bits.
    pub type_: u8,
    /// P.
    pub present: u8,
    /// Descriptor privilege level, 0 to 3.
    pub dpl: u8,
    /// D/B: 32-bit default operand size or stack.
    pub db: u8,
    /// S: 1 for code and data, 0 for system segments.
    pub s: u8,
    /// L: 64-bit code.
    pub l: u8,
    /// G: the descriptor's limit counts pages.
    pub g: u8,
    /// AVL, for software.
    pub avl: u8,
    /// The register holds no segment (a null selector was loaded).
    pub unusable: u8,
}

/// GDTR or IDTR (SDM vol. 3, 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Linear address.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// Segment, table and control registers (SDM vol. 3, 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Sregs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: Table,
    pub idt: Table,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
}

/// An exception on its way to its handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Exception {
    /// It is being delivered: its handler runs before the next instruction.
    pub injected: u8,
    /// Vector.
    pub nr: u8,
    /// Whether an error code is pushed.
    pub has_error_code: u8,
    /// It was raised and not yet looked at.
    pub pending: u8,
    /// The error code.
    pub error_code: u32,
}

/// A maskable interrupt on its way, and the shadow that holds events back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Interrupt {
    /// It is being delivered.
    pub injected: u8,
    /// Vector.
    pub nr: u8,
    /// It was raised by an instruction.
    pub soft: u8,
    /// [`SHADOW_MOV_SS`], [`SHADOW_STI`] or 0.
    pub shadow: u8,
}

/// What the CPU knows of non-maskable interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Nmi {
    /// One is being delivered.
    pub injected: u8,
    /// How many are latched.
    pub pending: u8,
    /// They are blocked until the next IRET.
    pub masked: u8,
}

/// Events between two instructions (SDM vol. 3, 6.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each field is the event of that name")]
pub struct Events {
    pub exception: Exception,
    pub interrupt: Interrupt,
    pub nmi: Nmi,
}

impl Exception {
    /// What of it is still to come. The other fields hold what the last one left.
    pub fn to_come(self) -> Option<(u8, u8, u8, u32)> {
        let code = if self.has_error_code != 0 { self.error_code } else { 0 };
        (self.injected | self.pending != 0).then_some((self.injected, self.pending, self.nr, code))
    }
}

/// The CPU stands in the one-instruction shadow of a load of SS (SDM vol. 3, 6.8.3).
pub const SHADOW_MOV_SS: u8 = 1;
/// It stands in the shadow of an STI.
pub const SHADOW_STI: u8 = 2;

/// RFLAGS bits (SDM vol. 1, 3.4.3).
pub mod rflags {
    /// Carry.
    pub const CF: u64 = 1;
    /// Bit 1 always reads as one.
    pub const FIXED: u64 = 1 << 1;
    /// Parity.
    pub const PF: u64 = 1 << 2;
    /// Auxiliary carry.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap flag.
    pub const TF: u64 = 1 << 8;
    /// Interrupt flag.
    pub const IF: u64 = 1 << 9;
    /// Direction flag.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// I/O privilege level.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume flag.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check, and access control for SMAP.
    pub const AC: u64 = 1 << 18;
    /// Identification: CPUID can be executed.
    pub const ID: u64 = 1 << 21;
}
