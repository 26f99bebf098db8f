//! The interrupted context: what must be the same at resume as at capture (I6).

use guest::abi;

use crate::cpu::{Difference, LazyId, Regs, Segment, Sregs};
use crate::kvm::VcpuState;

/// Every register that an NMI must give back: the whole state of the CPU but its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    regs: Regs,
    sregs: Sregs,
    kernel_gs: u64,
    lazy: LazyId,
}

impl Context {
    /// The context that `state` is in.
    pub fn of(state: &VcpuState) -> Self {
        let mut sregs = state.sregs;
        for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss, &mut sregs.ldt] {
            *segment = visible(segment);
            if segment.unusable != 0 {
                segment.base = 0; // in 64-bit mode that of FS and GS alone counts
            }
        }
        for segment in [&mut sregs.fs, &mut sregs.gs] {
            *segment = visible(segment); // the base counts, whatever the selector
        }
        Self { regs: state.regs, sregs, kernel_gs: state.kernel_gs, lazy: state.lazy }
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.regs.rip
    }

    /// The same, to go on at another instruction.
    pub fn at(&self, rip: u64) -> Self {
        Self { regs: Regs { rip, ..self.regs }, ..*self }
    }

    /// The stack pointer.
    pub fn rsp(&self) -> u64 {
        self.regs.rsp
    }

    /// The flags.
    pub fn rflags(&self) -> u64 {
        self.regs.rflags
    }

    /// The privilege level.
    pub fn cpl(&self) -> u8 {
        (self.sregs.cs.selector & 3) as u8
    }

    /// The root page table.
    pub fn cr3(&self) -> u64 {
        self.sregs.cr3
    }

    /// The base of GS.
    pub fn gs_base(&self) -> u64 {
        self.sregs.gs.base
    }

    /// The first register that differs.
    pub fn difference(&self, now: &Self) -> Option<Difference> {
        if self == now {
            return None;
        }
        let words = registers(&self.regs).into_iter().chain(system(&self.sregs, self.kernel_gs));
        let others = registers(&now.regs).into_iter().chain(system(&now.sregs, now.kernel_gs));
        let plain = words.zip(others).find(|((_, was), (_, is))| was != is);
        if let Some(((name, was), (_, is))) = plain {
            return Difference::of(name, was, is);
        }
        hidden(&self.sregs, &now.sregs).or_else(|| self.lazy_difference(now))
    }

    /// The first difference in the lazy state. DR6 is part of it: the CPU sets its bits at every
    /// #DB and never clears them (SDM vol. 3, 19.2.3), so an NMI whose body takes a #DB must give
    /// it back, or a #DB handler that the NMI interrupted before it read DR6 sees what is not its
    /// own.
    fn lazy_difference(&self, now: &Self) -> Option<Difference> {
        if self.lazy == now.lazy { None } else { self.lazy.state().difference(&now.lazy.state()) }
    }

    /// The first register that the entry code's [`abi::Regs`] shows otherwise: that is what it `is`.
    pub fn difference_in_view(&self, view: &abi::Regs) -> Option<Difference> {
        let abi::Frame { rip, cs, rflags, rsp, ss } = view.frame;
        let shown = [
            view.rax, view.rbx, view.rcx, view.rdx, view.rsi, view.rdi, rsp, view.rbp, view.r8, view.r9, view.r10,
            view.r11, view.r12, view.r13, view.r14, view.r15, rip, rflags,
        ];
        let frame = self.frame();
        let was = registers(&self.regs).into_iter().chain([("CS", frame.cs), ("SS", frame.ss)]);
        was.zip(shown.into_iter().chain([cs, ss]))
            .find(|((_, was), is)| was != is)
            .and_then(|((name, was), is)| Difference::of(name, was, is))
    }

    /// The five words that an interruption of this context pushes.
    pub fn frame(&self) -> abi::Frame {
        let (r, s) = (&self.regs, &self.sregs);
        abi::Frame { rip: r.rip, cs: s.cs.selector.into(), rflags: r.rflags, rsp: r.rsp, ss: s.ss.selector.into() }
    }
}

/// A segment register as software can see it: with a null selector the descriptor's fields mean
/// nothing (SDM vol. 3, 3.4.4), and what is left in them depends on how it came to be null. A
/// delivery from ring 3 and an iretq leave different ones in SS.
fn visible(segment: &Segment) -> Segment {
    match segment.selector {
        0..=3 => Segment {
            base: segment.base,
            selector: segment.selector,
            dpl: segment.dpl,
            unusable: 1,
            ..Segment::default()
        },
        _ => *segment,
    }
}

/// General registers, by name.
fn registers(r: &Regs) -> [(&'static str, u64); 18] {
    [
        ("RAX", r.rax),
        ("RBX", r.rbx),
        ("RCX", r.rcx),
        ("RDX", r.rdx),
        ("RSI", r.rsi),
        ("RDI", r.rdi),
        ("RSP", r.rsp),
        ("RBP", r.rbp),
        ("R8", r.r8),
        ("R9", r.r9),
        ("R10", r.r10),
        ("R11", r.r11),
        ("R12", r.r12),
        ("R13", r.r13),
        ("R14", r.r14),
        ("R15", r.r15),
        ("RIP", r.rip),
        ("RFLAGS", r.rflags),
    ]
}

/// System registers that software sees, by name.
fn system(s: &Sregs, kernel_gs: u64) -> [(&'static str, u64); 22] {
    [
        ("CS", s.cs.selector.into()),
        ("SS", s.ss.selector.into()),
        ("DS", s.ds.selector.into()),
        ("ES", s.es.selector.into()),
        ("FS", s.fs.selector.into()),
        ("GS", s.gs.selector.into()),
        ("FS base", s.fs.base),
        ("GS base", s.gs.base),
        ("CR0", s.cr0),
        ("CR2", s.cr2),
        ("CR3", s.cr3),
        ("CR4", s.cr4),
        ("CR8", s.cr8),
        ("EFER", s.efer),
        ("TR", s.tr.selector.into()),
        ("LDTR", s.ldt.selector.into()),
        ("GDTR base", s.gdt.base),
        ("GDTR limit", s.gdt.limit.into()),
        ("IDTR base", s.idt.base),
        ("IDTR limit", s.idt.limit.into()),
        ("IA32_APIC_BASE", s.apic_base),
        ("KERNEL_GS_BASE", kernel_gs),
    ]
}

/// The first segment register whose hidden part differs.
fn hidden(was: &Sregs, is: &Sregs) -> Option<Difference> {
    let all = |s: &Sregs| {
        [
            ("CS", s.cs),
            ("SS", s.ss),
            ("DS", s.ds),
            ("ES", s.es),
            ("FS", s.fs),
            ("GS", s.gs),
            ("TR", s.tr),
            ("LDTR", s.ldt),
        ]
    };
    let (name, was, is) =
        all(was).into_iter().zip(all(is)).map(|((n, a), (_, b))| (n, a, b)).find(|(_, a, b)| a != b)?;
    let attributes = |s: &Segment| {
        [s.type_, s.s, s.dpl, s.present, s.avl, s.l, s.db, s.g, s.unusable]
            .iter()
            .fold(0, |v, bit| v << 4 | u64::from(*bit))
    };
    match () {
        () if was.base != is.base => Difference::of(format!("{name} base"), was.base, is.base),
        () if was.limit != is.limit => Difference::of(format!("{name} limit"), was.limit.into(), is.limit.into()),
        () => Difference::of(format!("{name} attributes"), attributes(&was), attributes(&is)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_null_selector_leaves_behind_is_no_difference() {
        let with = |ss: Segment, fs: Segment| {
            let mut state = VcpuState::default();
            (state.sregs.ss, state.sregs.fs) = (ss, fs);
            Context::of(&state)
        };
        let (none, left) = (Segment::default(), Segment { base: 7, limit: 9, type_: 3, ..Segment::default() });
        let flat = Segment { selector: 0x10, limit: !0, ..Segment::default() };
        assert_eq!(with(none, none).difference(&with(left, none)), None);
        assert_eq!(with(none, none).difference(&with(none, left)).map(|d| d.register), Some("FS base".to_owned()));
        assert!(with(flat, none).difference(&with(Segment { limit: 1, ..flat }, none)).is_some());
    }
}
