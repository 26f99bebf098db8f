//! The image's code, decoded once: where instructions begin, and what each does
//! to the flow of control.

use std::collections::BTreeMap;

use iced_x86::{
    Code as Opcode, CodeSize, ConditionCode, CpuidFeature, Decoder, DecoderOptions, FlowControl, Formatter,
    GasFormatter, Instruction, Mnemonic, OpKind, Register,
};

use guest::abi;

use super::file::Image;
use crate::cpu::{Classes, rflags};

/// How an instruction hands on control, as far as a single step must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction only.
    Next,
    /// To `target`, always (jmp, call).
    To(u64),
    /// To `target` or to the next instruction.
    Either(u64),
    /// To an address in a register or in memory.
    Indirect,
    /// To the address at the top of the stack.
    Return,
    /// To the frame at the top of the stack.
    Iret,
    /// To RCX (SYSRET).
    Sysret,
    /// To LSTAR (SYSCALL).
    Syscall,
    /// It always traps or faults (int3, int n, ud2).
    Trap,
    /// A string instruction with a repeat prefix: to itself, or to the next.
    Repeat,
    /// HLT.
    Halt,
}

/// An instruction, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// As iced-x86 sees it.
    pub insn: Instruction,
    /// Where control goes.
    pub flow: Flow,
}

impl Decoded {
    fn new(insn: Instruction) -> Self {
        let near = || insn.near_branch_target();
        let flow = match insn.flow_control() {
            FlowControl::Next if insn.has_rep_prefix() && insn.is_string_instruction() => Flow::Repeat,
            FlowControl::Next if insn.has_repne_prefix() && insn.is_string_instruction() => Flow::Repeat,
            FlowControl::Next if insn.code() == Opcode::Hlt => Flow::Halt,
            FlowControl::UnconditionalBranch if insn.op0_kind() == OpKind::FarBranch32 => {
                Flow::To(insn.far_branch32().into())
            }
            FlowControl::UnconditionalBranch => Flow::To(near()),
            FlowControl::Call if insn.code() == Opcode::Syscall => Flow::Syscall,
            FlowControl::Call if insn.is_call_near() => Flow::To(near()),
            FlowControl::ConditionalBranch => Flow::Either(near()),
            FlowControl::IndirectBranch | FlowControl::IndirectCall => Flow::Indirect,
            FlowControl::Return => match insn.code() {
                Opcode::Iretq => Flow::Iret,
                Opcode::Sysretq | Opcode::Sysretd => Flow::Sysret,
                _ => Flow::Return,
            },
            FlowControl::Interrupt | FlowControl::Exception => Flow::Trap,
            _ => Flow::Next,
        };
        Self { insn, flow }
    }

    /// The memory that it accesses in all, where one of its operands is `element`, an address and
    /// bytes: a repeated string instruction goes on from there, downwards where DF is set. One that
    /// may end sooner (CMPS, SCAS) counts with its first element only.
    pub fn extent(&self, element: (u64, u64), rcx: u64, flags: u64) -> (u64, u64) {
        // Of a repeated one the decoder gives no size with an operand's address.
        let (at, len) = (element.0, self.insn.memory_size().size() as u64);
        let all = len.saturating_mul(rcx);
        match self.flow {
            Flow::Repeat if self.insn.has_repne_prefix() || self.compares() => (at, len),
            Flow::Repeat if rcx == 0 => (at, 0),
            Flow::Repeat if flags & rflags::DF != 0 => (at.wrapping_sub(all - len), all),
            Flow::Repeat => (at, all),
            _ => element,
        }
    }

    fn compares(&self) -> bool {
        use Mnemonic::{Cmpsb, Cmpsd, Cmpsq, Cmpsw, Scasb, Scasd, Scasq, Scasw};
        matches!(self.insn.mnemonic(), Cmpsb | Cmpsd | Cmpsq | Cmpsw | Scasb | Scasd | Scasq | Scasw)
    }

    /// Whether it loads SS and so holds interrupts, NMIs included, back for one
    /// instruction (SDM vol. 3, 6.8.3). `pop %ss` does not exist in 64-bit mode.
    pub fn loads_ss(&self) -> bool {
        self.insn.op0_register() == Register::SS && self.insn.mnemonic() == iced_x86::Mnemonic::Mov
    }

    /// The port of the contract that it asks at: an OUT's own, and [`abi::PORT_PV`] for
    /// the instruction of Xen's hypercall page.
    pub fn port(&self) -> Option<u8> {
        match self.insn.mnemonic() {
            Mnemonic::Out if self.insn.op0_kind() == OpKind::Immediate8 => Some(self.insn.immediate8()),
            Mnemonic::Vmcall | Mnemonic::Vmmcall => Some(abi::PORT_PV),
            _ => None,
        }
    }

    /// Whether it is STI.
    pub fn is_sti(&self) -> bool {
        self.insn.code() == Opcode::Sti
    }

    /// Whether a free run must stop before it, so that it is stepped: it changes the tables
    /// by which the lab knows where control can go, or GS's base without SWAPGS, or it reads
    /// what no state of the lab holds.
    pub fn must_be_seen(&self) -> bool {
        let to_gs = self.insn.op0_register() == Register::GS;
        let tables = [Mnemonic::Lidt, Mnemonic::Lgdt, Mnemonic::Lldt, Mnemonic::Ltr];
        let gs = [Mnemonic::Lgs, Mnemonic::Wrgsbase];
        let mnemonic = self.insn.mnemonic();
        tables.contains(&mnemonic) || gs.contains(&mnemonic) || to_gs || self.reads_time()
    }

    /// Whether it reads time or randomness, which no state of a machine holds. RDMSR can,
    /// too: that depends on RCX.
    pub fn reads_time(&self) -> bool {
        use Mnemonic::{Rdpmc, Rdpru, Rdrand, Rdseed, Rdtsc, Rdtscp};
        [Rdtsc, Rdtscp, Rdpmc, Rdpru, Rdrand, Rdseed].contains(&self.insn.mnemonic())
    }

    /// The lazy state that it touches. WRMSR exits, and is none of these.
    pub fn classes(&self) -> Classes {
        let op = |i| self.insn.op_kind(i) == OpKind::Register && self.insn.op_register(i).is_dr();
        let debug = (0..self.insn.op_count()).any(op);
        let fences = [Mnemonic::Lfence, Mnemonic::Mfence, Mnemonic::Sfence];
        let vector = self.insn.cpuid_features().iter().any(|f| !INTEGER.contains(f));
        let vector = vector && !fences.contains(&self.insn.mnemonic());
        Classes { debug, vector, msr: false }
    }

    /// Whether a conditional branch is taken with these flags; `None` for those
    /// that look at RCX.
    pub fn taken(&self, rflags: u64) -> Option<bool> {
        holds(self.insn.condition_code(), rflags)
    }

    /// Whether it was decoded as code of a segment of `bits` bits.
    pub fn is_of(&self, bits: u32) -> bool {
        (self.insn.code_size() == CodeSize::Code64) == (bits == 64)
    }

    /// AT&T syntax, as kernel sources are written.
    pub fn text(&self) -> String {
        let mut formatter = GasFormatter::new();
        formatter.options_mut().set_space_after_operand_separator(true);
        formatter.options_mut().set_hex_prefix("0x");
        formatter.options_mut().set_hex_suffix("");
        formatter.options_mut().set_uppercase_hex(false);
        let mut out = String::new();
        formatter.format(&self.insn, &mut out);
        out
    }
}

/// Whether a condition holds with these flags; `None` where it is none.
pub fn holds(condition: ConditionCode, rflags: u64) -> Option<bool> {
    let flag = |bit: u32| rflags >> bit & 1 != 0;
    let (cf, pf, zf, sf, of) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    Some(match condition {
        ConditionCode::None => return None,
        ConditionCode::o => of,
        ConditionCode::no => !of,
        ConditionCode::b => cf,
        ConditionCode::ae => !cf,
        ConditionCode::e => zf,
        ConditionCode::ne => !zf,
        ConditionCode::be => cf || zf,
        ConditionCode::a => !(cf || zf),
        ConditionCode::s => sf,
        ConditionCode::ns => !sf,
        ConditionCode::p => pf,
        ConditionCode::np => !pf,
        ConditionCode::l => sf != of,
        ConditionCode::ge => sf == of,
        ConditionCode::le => zf || sf != of,
        ConditionCode::g => !zf && sf == of,
    })
}

/// All instructions of an image.
#[derive(Debug, Default)]
pub struct Code {
    insns: BTreeMap<u64, Decoded>,
    /// Addresses behind an instruction that casts a shadow, with that instruction.
    shadowed: BTreeMap<u64, u64>,
    irets: Vec<u64>,
    syscalls: Vec<u64>,
    /// Instructions that a free run must not pass unseen: [`Decoded::must_be_seen`].
    seen: Vec<u64>,
    classes: Classes,
    /// Dense copy of `insns` for the hot path, one piece for each stretch of code.
    dense: Vec<Stretch>,
}

/// Code without large gaps: base address, and per byte the instruction there.
#[derive(Debug)]
struct Stretch {
    base: u64,
    bytes: Vec<Option<Box<Decoded>>>,
}

/// CPUID features whose instructions touch general and system registers and memory alone.
/// What is not among them is taken to touch vector state.
const INTEGER: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL8086_ONLY,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::CX8,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::MSR,
    CpuidFeature::TSC,
    CpuidFeature::RDTSCP,
    CpuidFeature::RDPMC,
    CpuidFeature::RDPRU,
    CpuidFeature::RDRAND,
    CpuidFeature::RDSEED,
    CpuidFeature::SYSCALL,
    CpuidFeature::SEP,
    CpuidFeature::FSGSBASE,
    CpuidFeature::SMAP,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::CET_IBT,
    CpuidFeature::POPCNT,
    CpuidFeature::LZCNT,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
    CpuidFeature::ADX,
    CpuidFeature::MOVBE,
    CpuidFeature::CLFSH,
    CpuidFeature::CLFLUSHOPT,
    CpuidFeature::CLWB,
    CpuidFeature::INVPCID,
    CpuidFeature::SMX,
    CpuidFeature::VMX,
    CpuidFeature::SVM,
    CpuidFeature::FRED,
];

/// A gap in the code from which on a new stretch begins.
const GAP: u64 = 4096;

impl Code {
    /// Decodes every executable segment as it is in the file, beginning anew at each code
    /// symbol.
    pub fn of(image: &Image) -> Self {
        Self::of_bytes(image, |start| image.code_at(start))
    }

    /// The same, of bytes that `code_at` returns for an address: those from there to the end
    /// of its segment.
    pub fn of_bytes<'a>(image: &'a Image, code_at: impl Fn(u64) -> Option<&'a [u8]>) -> Self {
        let mut out = Self::default();
        let starts: Vec<u64> = image
            .symbols
            .iter()
            .filter(|s| s.code && image.is_code(s.addr))
            .map(|s| s.addr)
            .chain(image.segments.iter().filter(|s| s.exec).map(|s| s.vaddr))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for (i, start) in starts.iter().enumerate() {
            let limit = starts.get(i + 1).copied().unwrap_or(u64::MAX);
            let Some(bytes) = code_at(*start) else { continue };
            let bits = if image.declared.code32.iter().any(|r| r.contains(start)) { 32 } else { 64 };
            let mut decoder = Decoder::with_ip(bits, bytes, *start, DecoderOptions::NONE);
            while decoder.can_decode() && decoder.ip() < limit {
                let insn = decoder.decode();
                if insn.is_invalid() {
                    break;
                }
                out.add(Decoded::new(insn));
            }
        }
        out.make_dense();
        out
    }

    fn add(&mut self, d: Decoded) {
        let at = d.insn.ip();
        if d.flow == Flow::Iret {
            self.irets.push(at);
        }
        if d.flow == Flow::Syscall {
            self.syscalls.push(at);
        }
        if d.must_be_seen() {
            self.seen.push(at);
        }
        self.classes = self.classes.or(d.classes());
        if d.loads_ss() || d.is_sti() {
            self.shadowed.insert(d.insn.next_ip(), at);
        }
        self.insns.insert(at, d);
    }

    fn make_dense(&mut self) {
        for (at, d) in &self.insns {
            match self.dense.last_mut() {
                Some(s) if at - s.base < s.bytes.len() as u64 + GAP => {
                    s.bytes.resize((at - s.base) as usize, None);
                    s.bytes.push(Some(Box::new(*d)));
                }
                _ => self.dense.push(Stretch { base: *at, bytes: vec![Some(Box::new(*d))] }),
            }
        }
    }

    /// The instruction at `addr`, where the decoding begins one there.
    pub fn at(&self, addr: u64) -> Option<&Decoded> {
        self.dense.iter().find_map(|s| s.bytes.get(usize::try_from(addr.wrapping_sub(s.base)).ok()?)?.as_deref())
    }

    /// How many places [`Self::place`] tells apart.
    pub fn places(&self) -> usize {
        self.dense.iter().map(|s| s.bytes.len()).sum()
    }

    /// A small number for an address in code.
    pub fn place(&self, addr: u64) -> Option<usize> {
        let mut before = 0;
        for s in &self.dense {
            match usize::try_from(addr.wrapping_sub(s.base)) {
                Ok(at) if at < s.bytes.len() => return Some(before + at),
                _ => before += s.bytes.len(),
            }
        }
        None
    }

    /// Decodes bytes that are not among the image's known instructions; `bits` is 64 or 32.
    pub fn decode(bits: u32, bytes: &[u8], addr: u64) -> Option<Decoded> {
        let insn = Decoder::with_ip(bits, bytes, addr, DecoderOptions::NONE).decode();
        (!insn.is_invalid()).then(|| Decoded::new(insn))
    }

    /// The instruction before `addr` that may cast a shadow on it.
    pub fn shadow_caster(&self, addr: u64) -> Option<u64> {
        self.shadowed.get(&addr).copied()
    }

    /// Every iretq.
    pub fn irets(&self) -> &[u64] {
        &self.irets
    }

    /// Every SYSCALL.
    pub fn syscalls(&self) -> &[u64] {
        &self.syscalls
    }

    /// Every instruction that a free run must not pass unseen.
    pub fn seen(&self) -> &[u64] {
        &self.seen
    }

    /// The lazy state that its instructions touch.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// Every instruction, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Decoded> {
        self.insns.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_jump_of_32_bit_code_leads_to_its_offset_and_is_no_64_bit_code() {
        let bytes = [0xea, 0x88, 0, 0, 0x40, 0x23, 0]; // ljmp $0x23, $0x40000088
        let d = Code::decode(32, &bytes, 0x4000_0080).unwrap();
        assert_eq!((d.flow, d.is_of(32), d.is_of(64)), (Flow::To(0x4000_0088), true, false));
        assert!(Code::decode(64, &bytes, 0x4000_0080).is_none());
    }

    #[test]
    fn a_repeated_move_accesses_all_that_it_moves() {
        let extent = |bytes: &[u8], rcx, flags| Code::decode(64, bytes, 0).unwrap().extent((0x1000, 0), rcx, flags);
        let rep_movsq = [0xf3, 0x48, 0xa5];
        assert_eq!(extent(&rep_movsq, 21, 0), (0x1000, 168));
        assert_eq!(extent(&rep_movsq, 21, rflags::DF), (0x1000 - 160, 168));
        assert_eq!(extent(&rep_movsq, 0, 0), (0x1000, 0));
        assert_eq!(extent(&[0x48, 0xa5], 21, 0), (0x1000, 0), "it is not repeated: as it was given");
        assert_eq!(extent(&[0xf3, 0x48, 0xa7], 21, 0), (0x1000, 8), "it may end sooner");
    }
}
