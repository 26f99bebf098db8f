//! Words that only count, and are left out when states are compared.
//!
//! A kernel counts its NMIs. If that were part of a state, no search would ever close. A word is
//! left out where an NMI only adds to it, and the flags of that increment are
//! overwritten before anything can look at them. Each instruction of the search is held to it:
//! another one that touches such a word ends the claim.

use iced_x86::{InstructionInfoFactory, Mnemonic, OpAccess, OpKind};

use super::bytes::{Bytes, PAGE, overlap};
use crate::cpu::rflags;
use crate::image::{Decoded, Flow};
use crate::inject::Event;
use crate::kernels::error::LabError;
use crate::kernels::lab::Lab;
use crate::kernels::pc::Pc;

/// Bytes that one instruction may access, at most.
const MOST_BYTES: u64 = 1 << 20;
/// Instructions after an increment within which its flags must be overwritten.
const SOON: usize = 64;

/// The words left out, ascending.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<Bytes>);

impl Counters {
    /// Those that the NMIs of `events` increment, and nothing else that they execute looks at.
    pub fn of(lab: &mut Lab, events: &[Event]) -> Result<Self, LabError> {
        let (mut counts, mut others) = (Vec::new(), Vec::new());
        let (mut factory, mut known) = (InstructionInfoFactory::new(), true);
        lab.walk_with(events, &mut |pc, d| {
            let counting = increments(d) && flags_die(pc, d);
            match accesses(pc, d, &mut factory) {
                Some(list) if counting => counts.extend(list),
                Some(list) => others.extend(list),
                None => known = false,
            }
        })?;
        if !known {
            counts.clear();
        }
        counts.retain(|word| !others.iter().any(|other| overlap(*word, *other)));
        counts.sort_unstable();
        counts.dedup();
        Ok(Self(counts))
    }

    /// Their addresses.
    pub fn all(&self) -> Vec<u64> {
        self.0.iter().map(|(at, _)| *at).collect()
    }

    /// The bytes of a page that are theirs.
    pub fn in_page(&self, page: u64) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let inside = move |at: u64| (at.clamp(page, page + PAGE as u64) - page) as usize;
        self.0.iter().map(move |(at, len)| inside(*at)..inside(at + len)).filter(|range| !range.is_empty())
    }

    /// Whether a byte is one of theirs.
    pub fn have(&self, paddr: u64) -> bool {
        self.0.iter().any(|word| overlap(*word, (paddr, 1)))
    }

    /// Whether an instruction that makes these accesses does with a counter what does not only
    /// count.
    pub fn are_broken_by(&self, d: &Decoded, accesses: &[Bytes]) -> bool {
        !increments(d) && accesses.iter().any(|bytes| self.0.iter().any(|word| overlap(*word, *bytes)))
    }
}

/// Whether it adds to a word of memory, and leaves the sum nowhere else.
fn increments(d: &Decoded) -> bool {
    matches!(d.insn.mnemonic(), Mnemonic::Inc | Mnemonic::Add) && d.insn.op0_kind() == OpKind::Memory
}

/// Whether every flag that it leaves is overwritten before it can be looked at, on the straight
/// way from there. Another NMI's frame may hold a copy of them, which is given back.
fn flags_die(pc: &Pc, d: &Decoded) -> bool {
    let mut left = d.insn.rflags_modified();
    let mut at = d.insn.next_ip();
    for _ in 0..SOON {
        let Some(d) = pc.instruction(at) else { return false };
        if d.insn.rflags_read() & left != 0 {
            return false;
        }
        left &= !d.insn.rflags_modified();
        if left == 0 {
            return true;
        }
        at = match d.flow {
            Flow::Next => d.insn.next_ip(),
            Flow::To(target) => target,
            _ => return false,
        };
    }
    false
}

/// The memory that an instruction accesses; `None` where that is not known.
pub fn accesses(pc: &Pc, d: &Decoded, factory: &mut InstructionInfoFactory) -> Option<Vec<Bytes>> {
    accesses_that(|_| true, pc, d, factory)
}

/// The memory that an instruction reads; `None` where that is not known.
pub fn reads(pc: &Pc, d: &Decoded, factory: &mut InstructionInfoFactory) -> Option<Vec<Bytes>> {
    accesses_that(|access| !matches!(access, OpAccess::Write | OpAccess::CondWrite), pc, d, factory)
}

fn accesses_that(
    wanted: impl Fn(OpAccess) -> bool,
    pc: &Pc,
    d: &Decoded,
    factory: &mut InstructionInfoFactory,
) -> Option<Vec<Bytes>> {
    let mut out = Vec::new();
    for m in factory.info(&d.insn).used_memory().iter().filter(|m| wanted(m.access())) {
        let at = m.virtual_address(0, |reg, _, _| pc.register(reg))?;
        let (at, len) = extent(pc, d, (at, m.memory_size().size() as u64))?;
        by_page(pc, at, len, &mut out);
    }
    if d.flow == Flow::Iret {
        by_page(pc, pc.state().regs.rsp, 40, &mut out);
    }
    Some(out)
}

/// All that a repeated string instruction may access, for which the decoder gives no size; `element`
/// else, if it has a size.
fn extent(pc: &Pc, d: &Decoded, (at, len): Bytes) -> Option<Bytes> {
    let regs = &pc.state().regs;
    match (d.flow, len) {
        (Flow::Repeat, _) => {
            let element = d.insn.memory_size().size() as u64;
            let all = element.checked_mul(regs.rcx).filter(|all| *all <= MOST_BYTES)?;
            let down = regs.rflags & rflags::DF != 0 && all > 0;
            Some((if down { at.wrapping_sub(all - element) } else { at }, all))
        }
        (_, 0) => None,
        (_, len) => Some((at, len)),
    }
}

/// Bytes by virtual address, page by page. What is not mapped faults, and is not accessed.
fn by_page(pc: &Pc, at: u64, len: u64, out: &mut Vec<Bytes>) {
    let (mut at, mut left) = (at, len);
    while left > 0 {
        let here = left.min(PAGE as u64 - at % PAGE as u64);
        out.extend(pc.physical(at).map(|paddr| (paddr, here)));
        (at, left) = (at.wrapping_add(here), left - here);
    }
}

/// Whether an instruction may change what the vCPU holds beyond registers and events.
pub fn changes_deep(d: &Decoded) -> bool {
    d.insn.op0_register().is_dr()
        || matches!(d.insn.mnemonic(), Mnemonic::Wrmsr | Mnemonic::Swapgs | Mnemonic::Wrgsbase | Mnemonic::Wrfsbase)
        || d.insn.cpuid_features().iter().any(|f| !is_integer(*f))
}

/// Whether instructions of a CPUID feature touch general registers and memory only.
fn is_integer(feature: iced_x86::CpuidFeature) -> bool {
    use iced_x86::CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CMOV
            | F::CPUID
            | F::TSC
            | F::RDTSCP
            | F::MULTIBYTENOP
            | F::PAUSE
            | F::CX8
            | F::SMAP
            | F::CET_IBT
            | F::CET_SS
            | F::BMI1
            | F::BMI2
            | F::POPCNT
            | F::MSR
    )
}
