//! The forms: opcodes, what follows them, and what the registers should hold.

/// Which operand sizes a form has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// Bytes.
    Byte,
    /// 16, 32 and 64 bits, by prefix.
    Wide,
    /// 16 and 32 bits.
    Narrow,
    /// 16 and 64 bits: the stack's.
    Stack,
    /// 32 and 64 bits of offset before a selector.
    Far48,
    /// As the opcode says.
    Fixed,
}

/// How a form's machine is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Any,
    /// RSI, RDI and RCX for a string instruction.
    String,
    /// A divisor and a dividend that often fit.
    Divide,
    /// A bit offset that stays in the data.
    BitOffset,
    /// A near address on the stack and in the data.
    Near,
    /// A far pointer on the stack and in the data.
    Far,
    /// An interrupt frame on the stack.
    Frame,
    /// A selector in RAX and on the stack.
    Selector,
    /// A number of an MSR in RCX, a value in EDX:EAX.
    Msr,
    /// RCX a near address and R11 flags.
    Sysret,
    /// A value for a control register in RAX.
    Control,
    /// A limit and a base in the data.
    Table,
}

/// One form of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Its name, as results give it.
    pub name: &'static str,
    /// Opcode, prefixes that belong to it included.
    pub(super) opcode: &'static [u8],
    /// What follows: `/r`, `/0` to `/7` (ModRM), `/m` (memory only), `+` (a register in the
    /// opcode), `b`, `z`, `q` (immediates), `j` (a short branch).
    pub(super) tail: &'static str,
    pub(super) sizes: Sizes,
    pub(super) setup: Setup,
    /// Code after it that shows what it left where a run's end does not.
    pub(super) after: &'static [u8],
    /// At which CPLs it is tried: bits 0 and 3.
    pub(super) rings: u8,
}

const fn f(name: &'static str, opcode: &'static [u8], tail: &'static str, sizes: Sizes, setup: Setup) -> Form {
    Form { name, opcode, tail, sizes, setup, after: &[], rings: 0b1001 }
}

impl Form {
    const fn kernel(self) -> Self {
        Self { rings: 1, ..self }
    }

    const fn then(self, after: &'static [u8]) -> Self {
        Self { after, ..self }
    }
}

/// All forms.
pub fn forms() -> impl Iterator<Item = Form> {
    ALU.iter().chain(DATA).chain(FLOW).chain(SYSTEM).copied()
}

use Setup::*;
use Sizes::*;

#[rustfmt::skip]
const ALU: &[Form] = &[
    f("add", &[0x00], "/r", Byte, Any), f("add", &[0x01], "/r", Wide, Any),
    f("add", &[0x02], "/r", Byte, Any), f("add", &[0x03], "/r", Wide, Any),
    f("add", &[0x04], "b", Byte, Any), f("add", &[0x05], "z", Wide, Any),
    f("or", &[0x08], "/r", Byte, Any), f("or", &[0x0b], "/r", Wide, Any),
    f("adc", &[0x10], "/r", Byte, Any), f("adc", &[0x11], "/r", Wide, Any),
    f("sbb", &[0x18], "/r", Byte, Any), f("sbb", &[0x1b], "/r", Wide, Any),
    f("and", &[0x20], "/r", Byte, Any), f("and", &[0x21], "/r", Wide, Any),
    f("sub", &[0x28], "/r", Byte, Any), f("sub", &[0x29], "/r", Wide, Any),
    f("xor", &[0x30], "/r", Byte, Any), f("xor", &[0x33], "/r", Wide, Any),
    f("cmp", &[0x38], "/r", Byte, Any), f("cmp", &[0x39], "/r", Wide, Any),
    f("cmp", &[0x3a], "/r", Byte, Any), f("cmp", &[0x3b], "/r", Wide, Any),
    f("test", &[0x84], "/r", Byte, Any), f("test", &[0x85], "/r", Wide, Any),
    f("test", &[0xa8], "b", Byte, Any), f("test", &[0xa9], "z", Wide, Any),
    f("add imm", &[0x80], "/0b", Byte, Any), f("add imm", &[0x81], "/0z", Wide, Any),
    f("add imm8", &[0x83], "/0b", Wide, Any), f("or imm8", &[0x83], "/1b", Wide, Any),
    f("adc imm8", &[0x83], "/2b", Wide, Any), f("sbb imm8", &[0x83], "/3b", Wide, Any),
    f("and imm8", &[0x83], "/4b", Wide, Any), f("sub imm8", &[0x83], "/5b", Wide, Any),
    f("xor imm8", &[0x83], "/6b", Wide, Any), f("cmp imm8", &[0x83], "/7b", Wide, Any),
    f("cmp imm", &[0x81], "/7z", Wide, Any), f("and imm", &[0x81], "/4z", Wide, Any),
    f("test imm", &[0xf6], "/0b", Byte, Any), f("test imm", &[0xf7], "/0z", Wide, Any),
    f("not", &[0xf6], "/2", Byte, Any), f("not", &[0xf7], "/2", Wide, Any),
    f("neg", &[0xf6], "/3", Byte, Any), f("neg", &[0xf7], "/3", Wide, Any),
    f("mul", &[0xf6], "/4", Byte, Any), f("mul", &[0xf7], "/4", Wide, Any),
    f("imul", &[0xf6], "/5", Byte, Any), f("imul", &[0xf7], "/5", Wide, Any),
    f("div", &[0xf6], "/6", Byte, Divide), f("div", &[0xf7], "/6", Wide, Divide),
    f("idiv", &[0xf6], "/7", Byte, Divide), f("idiv", &[0xf7], "/7", Wide, Divide),
    f("imul r,rm", &[0x0f, 0xaf], "/r", Wide, Any), f("imul r,rm,imm", &[0x69], "/rz", Wide, Any),
    f("imul r,rm,imm8", &[0x6b], "/rb", Wide, Any),
    f("inc", &[0xfe], "/0", Byte, Any), f("inc", &[0xff], "/0", Wide, Any),
    f("dec", &[0xfe], "/1", Byte, Any), f("dec", &[0xff], "/1", Wide, Any),
    f("rol", &[0xc0], "/0b", Byte, Any), f("rol", &[0xc1], "/0b", Wide, Any), f("rol 1", &[0xd1], "/0", Wide, Any),
    f("ror", &[0xc0], "/1b", Byte, Any), f("ror cl", &[0xd3], "/1", Wide, Any),
    f("rcl", &[0xc0], "/2b", Byte, Any), f("rcl", &[0xc1], "/2b", Wide, Any), f("rcl 1", &[0xd1], "/2", Wide, Any),
    f("rcr", &[0xc0], "/3b", Byte, Any), f("rcr cl", &[0xd3], "/3", Wide, Any),
    f("shl", &[0xc0], "/4b", Byte, Any), f("shl", &[0xc1], "/4b", Wide, Any), f("shl cl", &[0xd3], "/4", Wide, Any),
    f("shr", &[0xc0], "/5b", Byte, Any), f("shr", &[0xc1], "/5b", Wide, Any), f("shr 1", &[0xd1], "/5", Wide, Any),
    f("sar", &[0xc0], "/7b", Byte, Any), f("sar", &[0xc1], "/7b", Wide, Any), f("sar cl", &[0xd3], "/7", Wide, Any),
    f("shld", &[0x0f, 0xa4], "/rb", Wide, Any), f("shld cl", &[0x0f, 0xa5], "/r", Wide, Any),
    f("shrd", &[0x0f, 0xac], "/rb", Wide, Any), f("shrd cl", &[0x0f, 0xad], "/r", Wide, Any),
    f("bt", &[0x0f, 0xa3], "/r", Wide, BitOffset), f("bts", &[0x0f, 0xab], "/r", Wide, BitOffset),
    f("btr", &[0x0f, 0xb3], "/r", Wide, BitOffset), f("btc", &[0x0f, 0xbb], "/r", Wide, BitOffset),
    f("bt imm", &[0x0f, 0xba], "/4b", Wide, Any), f("bts imm", &[0x0f, 0xba], "/5b", Wide, Any),
    f("btr imm", &[0x0f, 0xba], "/6b", Wide, Any), f("btc imm", &[0x0f, 0xba], "/7b", Wide, Any),
    f("bsf", &[0x0f, 0xbc], "/r", Wide, Any), f("bsr", &[0x0f, 0xbd], "/r", Wide, Any),
    f("xadd", &[0x0f, 0xc0], "/r", Byte, Any), f("xadd", &[0x0f, 0xc1], "/r", Wide, Any),
    f("cmpxchg", &[0x0f, 0xb0], "/r", Byte, Any), f("cmpxchg", &[0x0f, 0xb1], "/r", Wide, Any),
    f("cmpxchg8b", &[0x0f, 0xc7], "/m1", Fixed, Any),
    f("lock add", &[0xf0, 0x01], "/mr", Fixed, Any),
    f("cbw", &[0x98], "", Wide, Any), f("cwd", &[0x99], "", Wide, Any),
];

#[rustfmt::skip]
const DATA: &[Form] = &[
    f("mov", &[0x88], "/r", Byte, Any), f("mov", &[0x89], "/r", Wide, Any),
    f("mov", &[0x8a], "/r", Byte, Any), f("mov", &[0x8b], "/r", Wide, Any),
    f("mov imm", &[0xb0], "+b", Byte, Any), f("mov imm", &[0xb8], "+z", Narrow, Any),
    f("mov imm64", &[0x48, 0xb8], "+q", Fixed, Any),
    f("mov imm", &[0xc6], "/0b", Byte, Any), f("mov imm", &[0xc7], "/0z", Wide, Any),
    f("movzx", &[0x0f, 0xb6], "/r", Wide, Any), f("movzx", &[0x0f, 0xb7], "/r", Wide, Any),
    f("movsx", &[0x0f, 0xbe], "/r", Wide, Any), f("movsx", &[0x0f, 0xbf], "/r", Wide, Any),
    f("movsxd", &[0x63], "/r", Wide, Any), f("lea", &[0x8d], "/mr", Wide, Any),
    f("xchg", &[0x86], "/r", Byte, Any), f("xchg", &[0x87], "/r", Wide, Any), f("xchg rax", &[0x90], "+", Wide, Any),
    f("bswap", &[0x0f, 0xc8], "+", Wide, Any), f("xlat", &[0xd7], "", Fixed, Any),
    f("cmovb", &[0x0f, 0x42], "/r", Wide, Any), f("cmovle", &[0x0f, 0x4e], "/r", Wide, Any),
    f("cmovs", &[0x0f, 0x48], "/r", Wide, Any), f("cmovnp", &[0x0f, 0x4b], "/r", Wide, Any),
    f("seto", &[0x0f, 0x90], "/0", Byte, Any), f("setbe", &[0x0f, 0x96], "/0", Byte, Any),
    f("setl", &[0x0f, 0x9c], "/0", Byte, Any), f("setg", &[0x0f, 0x9f], "/0", Byte, Any),
    f("push", &[0x50], "+", Stack, Any), f("pop", &[0x58], "+", Stack, Any),
    f("push rm", &[0xff], "/6", Stack, Any), f("pop rm", &[0x8f], "/0", Stack, Any),
    f("push imm", &[0x68], "z", Stack, Any), f("push imm8", &[0x6a], "b", Stack, Any),
    f("push fs", &[0x0f, 0xa0], "", Stack, Any), f("push gs", &[0x0f, 0xa8], "", Stack, Any),
    f("pop fs", &[0x0f, 0xa1], "", Fixed, Selector), f("pop gs", &[0x0f, 0xa9], "", Fixed, Selector),
    f("pushf", &[0x9c], "", Stack, Any), f("popf", &[0x9d], "", Stack, Any), f("leave", &[0xc9], "", Fixed, Any),
    f("lahf", &[0x9f], "", Fixed, Any), f("sahf", &[0x9e], "", Fixed, Any),
    f("clc", &[0xf8], "", Fixed, Any), f("stc", &[0xf9], "", Fixed, Any), f("cmc", &[0xf5], "", Fixed, Any),
    f("cld", &[0xfc], "", Fixed, Any), f("std", &[0xfd], "", Fixed, Any),
    f("nop", &[0x90], "", Fixed, Any), f("nop rm", &[0x0f, 0x1f], "/0", Wide, Any), f("pause", &[0xf3, 0x90], "", Fixed, Any),
    f("lfence", &[0x0f, 0xae, 0xe8], "", Fixed, Any), f("mfence", &[0x0f, 0xae, 0xf0], "", Fixed, Any),
    f("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa], "", Fixed, Any),
    f("movs", &[0xa4], "", Byte, String), f("movs", &[0xa5], "", Wide, String),
    f("stos", &[0xaa], "", Byte, String), f("stos", &[0xab], "", Wide, String),
    f("lods", &[0xac], "", Byte, String), f("lods", &[0xad], "", Wide, String),
    f("cmps", &[0xa6], "", Byte, String), f("cmps", &[0xa7], "", Wide, String),
    f("scas", &[0xae], "", Byte, String), f("scas", &[0xaf], "", Wide, String),
    f("rep movsb", &[0xf3, 0xa4], "", Fixed, String), f("rep movsq", &[0xf3, 0x48, 0xa5], "", Fixed, String),
    f("rep stosb", &[0xf3, 0xaa], "", Fixed, String), f("rep stosq", &[0xf3, 0x48, 0xab], "", Fixed, String),
    f("repe cmpsb", &[0xf3, 0xa6], "", Fixed, String), f("repne scasb", &[0xf2, 0xae], "", Fixed, String),
    f("movabs", &[0xa0], "a", Fixed, Any), f("movabs", &[0x48, 0xa3], "a", Fixed, Any),
];

#[rustfmt::skip]
const FLOW: &[Form] = &[
    f("jo", &[0x70], "j", Fixed, Any), f("jb", &[0x72], "j", Fixed, Any), f("je", &[0x74], "j", Fixed, Any),
    f("jbe", &[0x76], "j", Fixed, Any), f("js", &[0x78], "j", Fixed, Any), f("jp", &[0x7a], "j", Fixed, Any),
    f("jl", &[0x7c], "j", Fixed, Any), f("jle", &[0x7e], "j", Fixed, Any), f("jg", &[0x7f], "j", Fixed, Any),
    f("loop", &[0xe2], "j", Fixed, Any), f("loope", &[0xe1], "j", Fixed, Any), f("loopne", &[0xe0], "j", Fixed, Any),
    f("jrcxz", &[0xe3], "j", Fixed, Any), f("jecxz", &[0x67, 0xe3], "j", Fixed, Any), f("jmp", &[0xeb], "j", Fixed, Any),
    f("jmp rm", &[0xff], "/4", Fixed, Near), f("call rm", &[0xff], "/2", Fixed, Near),
    f("call", &[0xe8, 0x10, 0, 0, 0], "", Fixed, Any),
    f("ret", &[0xc3], "", Fixed, Near), f("ret imm", &[0xc2, 0x18, 0], "", Fixed, Near),
    f("ljmp", &[0xff], "/m5", Far48, Setup::Far), f("lcall", &[0xff], "/m3", Far48, Setup::Far),
    f("lretq", &[0x48, 0xcb], "", Fixed, Setup::Far), f("lretq imm", &[0x48, 0xca, 0x10, 0], "", Fixed, Setup::Far),
    f("lretl", &[0xcb], "", Fixed, Setup::Far),
    f("iretq", &[0x48, 0xcf], "", Fixed, Frame),
    f("int3", &[0xcc], "", Fixed, Any), f("int n", &[0xcd, 0x81], "", Fixed, Any), f("int1", &[0xf1], "", Fixed, Any),
    f("ud2", &[0x0f, 0x0b], "", Fixed, Any), f("into", &[0xce], "", Fixed, Any), f("push es", &[0x06], "", Fixed, Any),
    f("syscall", &[0x0f, 0x05], "", Fixed, Any), f("sysretq", &[0x48, 0x0f, 0x07], "", Fixed, Sysret),
    f("sysretl", &[0x0f, 0x07], "", Fixed, Sysret),
    f("hlt", &[0xf4], "", Fixed, Any), f("out imm", &[0xe6, 0x80], "", Fixed, Any), f("out dx", &[0xef], "", Narrow, Any),
    f("in imm", &[0xe4, 0x80], "", Fixed, Any),
];

#[rustfmt::skip]
const SYSTEM: &[Form] = &[
    f("cli", &[0xfa], "", Fixed, Any), f("sti", &[0xfb], "", Fixed, Any),
    f("mov from sreg", &[0x8c], "/s", Wide, Any), f("mov to ds", &[0x8e, 0xd8], "", Fixed, Selector),
    f("mov to es", &[0x8e, 0xc0], "", Fixed, Selector), f("mov to ss", &[0x8e, 0xd0], "", Fixed, Selector),
    f("mov to fs", &[0x8e, 0xe0], "", Fixed, Selector), f("mov to gs", &[0x8e, 0xe8], "", Fixed, Selector),
    f("mov to cs", &[0x8e, 0xc8], "", Fixed, Selector),
    f("mov from cr0", &[0x0f, 0x20, 0xc3], "", Fixed, Any), f("mov from cr2", &[0x0f, 0x20, 0xd3], "", Fixed, Any),
    f("mov from cr3", &[0x0f, 0x20, 0xdb], "", Fixed, Any), f("mov from cr4", &[0x0f, 0x20, 0xe3], "", Fixed, Any),
    f("mov from cr8", &[0x44, 0x0f, 0x20, 0xc3], "", Fixed, Any), f("mov from cr1", &[0x0f, 0x20, 0xcb], "", Fixed, Any),
    f("mov to cr0", &[0x0f, 0x22, 0xc0], "", Fixed, Control), f("mov to cr2", &[0x0f, 0x22, 0xd0], "", Fixed, Control),
    f("mov to cr3", &[0x0f, 0x22, 0xd8], "", Fixed, Control), f("mov to cr4", &[0x0f, 0x22, 0xe0], "", Fixed, Control),
    f("mov to cr8", &[0x44, 0x0f, 0x22, 0xc0], "", Fixed, Control),
    // mov %rax,%dr0; mov %dr0,%rbx; mov %dr6,%rcx; mov %dr7,%rdx; xor %eax,%eax; mov %rax,%dr0
    f("mov to dr0", &[0x0f, 0x23, 0xc0], "", Fixed, Any)
        .then(&[0x0f, 0x21, 0xc3, 0x0f, 0x21, 0xf1, 0x0f, 0x21, 0xfa, 0x31, 0xc0, 0x0f, 0x23, 0xc0]),
    // mov %rax,%dr6; mov %dr6,%rbx; mov $0xffff0ff0,%eax; mov %rax,%dr6
    f("mov to dr6", &[0x0f, 0x23, 0xf0], "", Fixed, Control)
        .then(&[0x0f, 0x21, 0xf3, 0xb8, 0xf0, 0x0f, 0xff, 0xff, 0x0f, 0x23, 0xf0]),
    f("clts", &[0x0f, 0x06], "", Fixed, Any), f("smsw", &[0x0f, 0x01], "/4", Wide, Any),
    f("wbinvd", &[0x0f, 0x09], "", Fixed, Any), f("invlpg", &[0x0f, 0x01], "/m7", Fixed, Any),
    f("swapgs", &[0x0f, 0x01, 0xf8], "", Fixed, Any),
    f("rdfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xc3], "", Fixed, Any), f("rdgsbase", &[0xf3, 0x0f, 0xae, 0xcb], "", Fixed, Any),
    f("wrfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd3], "", Fixed, Any), f("wrgsbase", &[0xf3, 0x0f, 0xae, 0xdb], "", Fixed, Any),
    f("rdmsr", &[0x0f, 0x32], "", Fixed, Msr), f("wrmsr", &[0x0f, 0x30], "", Fixed, Msr).then(&[0x0f, 0x32]).kernel(),
    f("lgdt", &[0x0f, 0x01], "/m2", Fixed, Table), f("lidt", &[0x0f, 0x01], "/m3", Fixed, Table),
    f("sgdt", &[0x0f, 0x01], "/m0", Fixed, Any), f("sidt", &[0x0f, 0x01], "/m1", Fixed, Any),
    f("lldt", &[0x0f, 0x00], "/2", Fixed, Selector), f("ltr", &[0x0f, 0x00], "/3", Fixed, Selector),
    f("sldt", &[0x0f, 0x00], "/0", Wide, Any), f("str", &[0x0f, 0x00], "/1", Wide, Any),
];

impl Form {
    /// Whether it needs nothing of the machine that it is tried in.
    pub fn is_plain(&self) -> bool {
        self.setup == Setup::Any && self.after.is_empty()
    }

    /// The CPLs at which it is tried.
    pub fn cpls(&self) -> impl Iterator<Item = u8> + use<> {
        let rings = self.rings;
        [0, 3].into_iter().filter(move |cpl| rings >> cpl & 1 == 1)
    }
}
