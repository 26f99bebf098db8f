//! The interrupted context: what must be the same at resume as at capture (I6).

use guest::abi::{Frame, Regs};

use crate::kvm::VcpuState;

/// Names of the words of [`Context`], in order.
const NAMES: [&str; 35] = [
    "RAX",
    "RBX",
    "RCX",
    "RDX",
    "RSI",
    "RDI",
    "RSP",
    "RBP",
    "R8",
    "R9",
    "R10",
    "R11",
    "R12",
    "R13",
    "R14",
    "R15",
    "RIP",
    "RFLAGS",
    "CS",
    "SS",
    "DS",
    "ES",
    "FS",
    "GS",
    "FS base",
    "GS base",
    "CR0",
    "CR2",
    "CR3",
    "CR4",
    "EFER",
    "TR",
    "GDTR",
    "IDTR",
    "KERNEL_GS_BASE",
];
const RSP: usize = 6;
const RIP: usize = 16;
const RFLAGS: usize = 17;
const CS: usize = 18;
const SS: usize = 19;
const GS_BASE: usize = 25;
const CR3: usize = 28;

/// Every register that an NMI must give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context([u64; NAMES.len()]);

impl Default for Context {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Context {
    /// The context that `state` is in.
    pub fn of(state: &VcpuState) -> Self {
        let (r, s) = (&state.regs, &state.sregs);
        let segments = [&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs].map(|s| u64::from(s.selector));
        let [cs, ss, ds, es, fs, gs] = segments;
        Self([
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            r.rsp,
            r.rbp,
            r.r8,
            r.r9,
            r.r10,
            r.r11,
            r.r12,
            r.r13,
            r.r14,
            r.r15,
            r.rip,
            r.rflags,
            cs,
            ss,
            ds,
            es,
            fs,
            gs,
            s.fs.base,
            s.gs.base,
            s.cr0,
            s.cr2,
            s.cr3,
            s.cr4,
            s.efer,
            s.tr.selector.into(),
            s.gdt.base,
            s.idt.base,
            state.kernel_gs,
        ])
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.0[RIP]
    }

    /// The stack pointer.
    pub fn rsp(&self) -> u64 {
        self.0[RSP]
    }

    /// The flags.
    pub fn rflags(&self) -> u64 {
        self.0[RFLAGS]
    }

    /// The privilege level.
    pub fn cpl(&self) -> u8 {
        (self.0[CS] & 3) as u8
    }

    /// The root page table.
    pub fn cr3(&self) -> u64 {
        self.0[CR3]
    }

    /// The base of GS.
    pub fn gs_base(&self) -> u64 {
        self.0[GS_BASE]
    }

    /// The first register that differs: its name, what it was here, what it is there.
    pub fn difference(&self, now: &Self) -> Option<(&'static str, u64, u64)> {
        let i = self.0.iter().zip(&now.0).position(|(a, b)| a != b)?;
        Some((NAMES[i], self.0[i], now.0[i]))
    }

    /// The first register that the entry code's [`Regs`] shows otherwise.
    pub fn difference_in_view(&self, view: &Regs) -> Option<(&'static str, u64, u64)> {
        let c = &self.0;
        let Frame { rip, cs, rflags, rsp, ss } = view.frame;
        let shown = [
            view.rax, view.rbx, view.rcx, view.rdx, view.rsi, view.rdi, rsp, view.rbp, view.r8, view.r9, view.r10,
            view.r11, view.r12, view.r13, view.r14, view.r15, rip, rflags, cs, ss,
        ];
        let i = shown.iter().zip(c).position(|(a, b)| a != b)?;
        Some((NAMES[i], c[i], shown[i]))
    }

    /// The five words that an interruption of this context pushes.
    pub fn frame(&self) -> Frame {
        let c = &self.0;
        Frame { rip: c[RIP], cs: c[CS], rflags: c[RFLAGS], rsp: c[RSP], ss: c[SS] }
    }
}
