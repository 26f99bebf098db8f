//! Everything of a CPU that an instruction can read or change, besides memory.

use super::{Events, Regs, Sregs, msr};

/// Debug registers (SDM vol. 3, 19.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Debug {
    /// DR0 to DR3: linear addresses of breakpoints.
    pub addresses: [u64; 4],
    /// DR6: what happened.
    pub dr6: u64,
    /// DR7: what is armed.
    pub dr7: u64,
}

impl Default for Debug {
    /// The values after a reset (SDM vol. 3, table 11-1).
    fn default() -> Self {
        Self { addresses: [0; 4], dr6: 0xffff_0ff0, dr7: 0x400 }
    }
}

/// The MSRs that the model carries besides the bases of FS and GS, EFER and
/// IA32_KERNEL_GS_BASE. Any other is not understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Msrs {
    /// Their values, in the order of [`Msrs::NUMBERS`].
    pub values: [u64; Msrs::NUMBERS.len()],
}

impl Msrs {
    /// The MSRs' numbers (SDM vol. 4): SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, PAT, STAR,
    /// LSTAR, CSTAR, FMASK, TSC_AUX, SPEC_CTRL.
    pub const NUMBERS: [u32; 10] =
        [0x174, 0x175, 0x176, 0x277, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0103, msr::SPEC_CTRL];
    /// Index of IA32_STAR.
    pub const STAR: usize = 4;
    /// Index of IA32_LSTAR.
    pub const LSTAR: usize = 5;
    /// Index of IA32_FMASK.
    pub const FMASK: usize = 7;

    /// Where `number` stands in [`Msrs::values`]; `None` where it is not carried.
    pub fn index(number: u32) -> Option<usize> {
        Self::NUMBERS.iter().position(|n| *n == number)
    }

    /// The value of `number`; `None` where it is not carried.
    pub fn value(&self, number: u32) -> Option<u64> {
        Self::index(number).and_then(|i| self.values.get(i).copied())
    }
}

/// The state of one CPU. Its parts are those that a host's KVM is loaded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cpu {
    /// General registers, RIP, RFLAGS.
    pub regs: Regs,
    /// Segments, tables, control registers.
    pub sregs: Sregs,
    /// NMI mask and shadow. What is pending or injected is the caller's: a step never
    /// delivers it.
    pub events: Events,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs: u64,
    /// Debug registers.
    pub debug: Debug,
    /// The MSRs that are carried.
    pub msrs: Msrs,
    /// Flags (as RFLAGS bits) that the last instruction to change them left undefined. Their
    /// value in `regs.rflags` is what the processors that we know leave there; an instruction
    /// that tests one is not understood.
    pub undefined: u64,
}

impl Cpu {
    /// The current privilege level (SDM vol. 3, 5.5).
    pub fn cpl(&self) -> u8 {
        (self.sregs.cs.selector & 3) as u8
    }

    /// A general register by number: see [`super::Regs::gpr`].
    #[inline]
    pub fn gpr(&self, n: u8) -> u64 {
        self.regs.gpr(n)
    }

    /// The same register, to write.
    #[inline]
    pub fn gpr_mut(&mut self, n: u8) -> &mut u64 {
        self.regs.gpr_mut(n)
    }
}
