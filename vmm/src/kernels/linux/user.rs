//! The user program that runs on the kernel: it keeps every register busy with a
//! checksum, shows by a port that it lives, and enters the kernel by SYSCALL.
//!
//! It is written down as machine code, so that no toolchain and no file is needed to
//! run any kernel; a test holds each line's bytes against its text.
//!
//! One round: 64 iterations of the checksum, a byte to `MARK` (a place amid user
//! code with all registers in use), another to `LDT_MARK` with SS from the LDT, 64 more, the
//! checksum to `HEARTBEAT`, getppid; in every 16th round nanosleep for 2 ms, in which the CPU is
//! idle.
//!
//! Its state is unlike what a CPU starts with, so that a handler which spoils it shows: GS
//! and FS have bases, FCW, MXCSR, ST0 and XMM3 values of their own, and during the checksum
//! DF and AC are set. Where the kernel lets it (AT_HWCAP2), the base of GS is in the high half,
//! as if it were a kernel's. Where the kernel has modify_ldt and the CPU takes the descriptor
//! (VERW), the LDT has a 16-bit stack segment: a return to it goes through espfix64.

/// Iterations of each half.
const HALF: u64 = 0x40;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// A line of the program: its bytes, and what they mean.
type Line = (&'static [u8], &'static str);

/// The program. The targets of its jumps count from its beginning; that of the one jump of
/// [`CHECKSUM`], from its own.
static PARTS: [&[Line]; 5] = [BEGIN, CHECKSUM, SHOW_MARK, CHECKSUM, SHOW_SUM];

#[rustfmt::skip]
const BEGIN: &[Line] = &[
    (&[0xb8, 0xac, 0x00, 0x00, 0x00], "mov $0xac, %eax"),
    (&[0xbf, 0x03, 0x00, 0x00, 0x00], "mov $3, %edi"),
    (&[0x0f, 0x05], "syscall"),
    (&[0x85, 0xc0], "test %eax, %eax"),
    (&[0x0f, 0x85, 0xb7, 0x01, 0x00, 0x00], "jne 0x00000000000001cb"),
    // a GS and an FS base
    (&[0xb8, 0x9e, 0x00, 0x00, 0x00], "mov $0x9e, %eax"),
    (&[0xbf, 0x01, 0x10, 0x00, 0x00], "mov $0x1001, %edi"),
    (&[0xbe, 0x00, 0x50, 0x34, 0x12], "mov $0x12345000, %esi"),
    (&[0x0f, 0x05], "syscall"),
    (&[0xb8, 0x9e, 0x00, 0x00, 0x00], "mov $0x9e, %eax"),
    (&[0xbf, 0x02, 0x10, 0x00, 0x00], "mov $0x1002, %edi"),
    (&[0xbe, 0x00, 0xa0, 0x89, 0x67], "mov $0x6789a000, %esi"),
    (&[0x0f, 0x05], "syscall"),
    // AT_HWCAP2, behind the arguments and the environment
    (&[0x48, 0x8d, 0x74, 0x24, 0x08], "lea 8(%rsp), %rsi"),
    (&[0x48, 0xad], "lods (%rsi), %rax"),
    (&[0x48, 0x85, 0xc0], "test %rax, %rax"),
    (&[0x75, 0xf9], "jne 0x000000000000003b"),
    (&[0x48, 0xad], "lods (%rsi), %rax"),
    (&[0x48, 0x85, 0xc0], "test %rax, %rax"),
    (&[0x75, 0xf9], "jne 0x0000000000000042"),
    (&[0x48, 0xad], "lods (%rsi), %rax"),
    (&[0x89, 0xc7], "mov %eax, %edi"),
    (&[0x48, 0xad], "lods (%rsi), %rax"),
    (&[0x83, 0xff, 0x1a], "cmp $0x1a, %edi"),
    (&[0x74, 0x06], "je 0x000000000000005a"),
    (&[0x85, 0xff], "test %edi, %edi"),
    (&[0x75, 0xf1], "jne 0x0000000000000049"),
    (&[0xeb, 0x13], "jmp 0x000000000000006d"),
    (&[0xa8, 0x02], "test $2, %al"),
    (&[0x74, 0x0f], "je 0x000000000000006d"),
    // a GS base in the high half
    (&[0x48, 0xb8, 0x00, 0x90, 0x78, 0x56, 0x34, 0x92, 0xff, 0xff], "movabs $0xffff923456789000, %rax"),
    (&[0xf3, 0x48, 0x0f, 0xae, 0xd8], "wrgsbase %rax"),
    // a 16-bit stack segment in the LDT, or that of user code
    (&[0x48, 0xb8, 0xff, 0xff, 0x0f, 0x00, 0x50, 0x00, 0x00, 0x00], "movabs $0x50000fffff, %rax"),
    (&[0x50], "push %rax"),
    (&[0x6a, 0x00], "push $0"),
    (&[0xbf, 0x11, 0x00, 0x00, 0x00], "mov $0x11, %edi"),
    (&[0x48, 0x89, 0xe6], "mov %rsp, %rsi"),
    (&[0xba, 0x10, 0x00, 0x00, 0x00], "mov $0x10, %edx"),
    (&[0xb8, 0x9a, 0x00, 0x00, 0x00], "mov $0x9a, %eax"),
    (&[0x0f, 0x05], "syscall"),
    (&[0x48, 0x83, 0xc4, 0x10], "add $0x10, %rsp"),
    (&[0x41, 0xbd, 0x2b, 0x00, 0x00, 0x00], "mov $0x2b, %r13d"),
    (&[0x85, 0xc0], "test %eax, %eax"),
    (&[0x75, 0x0c], "jne 0x00000000000000a8"),
    (&[0xb9, 0x07, 0x00, 0x00, 0x00], "mov $7, %ecx"),
    (&[0x0f, 0x00, 0xe9], "verw %cx"),
    (&[0x44, 0x0f, 0x44, 0xe9], "cmove %ecx, %r13d"),
    // round:
    (&[0x41, 0xff, 0xc4], "inc %r12d"),
    // FCW, MXCSR and ST0
    (&[0xdb, 0xe3], "fninit"),
    (&[0x68, 0x7f, 0x02, 0x00, 0x00], "push $0x27f"),
    (&[0xd9, 0x2c, 0x24], "fldcw (%rsp)"),
    (&[0xc7, 0x04, 0x24, 0x80, 0x9f, 0x00, 0x00], "movl $0x9f80, (%rsp)"),
    (&[0x0f, 0xae, 0x14, 0x24], "ldmxcsr (%rsp)"),
    (&[0x58], "pop %rax"),
    (&[0xd9, 0xe8], "fld1"),
    (&[0x48, 0xb8, 0x15, 0x7c, 0x4a, 0x7f, 0xb9, 0x79, 0x37, 0x9e], "movabs $0x9e3779b97f4a7c15, %rax"),
    (&[0x66, 0x48, 0x0f, 0x6e, 0xd8], "movq %rax, %xmm3"),
    (&[0x48, 0x89, 0xc3], "mov %rax, %rbx"),
    (&[0x48, 0x89, 0xc5], "mov %rax, %rbp"),
    (&[0x48, 0x89, 0xc6], "mov %rax, %rsi"),
    (&[0x48, 0x89, 0xc7], "mov %rax, %rdi"),
    (&[0x49, 0x89, 0xc0], "mov %rax, %r8"),
    (&[0x49, 0x89, 0xc2], "mov %rax, %r10"),
    (&[0x49, 0x89, 0xc6], "mov %rax, %r14"),
    (&[0x49, 0x89, 0xc7], "mov %rax, %r15"),
    // DF and AC
    (&[0x9c], "pushf"),
    (&[0x81, 0x0c, 0x24, 0x00, 0x04, 0x04, 0x00], "orl $0x40400, (%rsp)"),
    (&[0x9d], "popf"),
];

/// One half of a round.
#[rustfmt::skip]
static CHECKSUM: &[Line] = &[
    (&[0xb9, 0x40, 0x00, 0x00, 0x00], "mov $0x40, %ecx"),
    // next:
    (&[0x48, 0x01, 0xc8], "add %rcx, %rax"),
    (&[0x48, 0x0f, 0xaf, 0xc3], "imul %rbx, %rax"),
    (&[0x48, 0xc1, 0xc0, 0x0d], "rol $0xd, %rax"),
    (&[0x48, 0x31, 0xc5], "xor %rax, %rbp"),
    (&[0x48, 0x01, 0xee], "add %rbp, %rsi"),
    (&[0x48, 0x8d, 0x3c, 0x7e], "lea (%rsi,%rdi,2), %rdi"),
    (&[0x49, 0x31, 0xf8], "xor %rdi, %r8"),
    (&[0x41, 0x50], "push %r8"),
    (&[0x41, 0x59], "pop %r9"),
    (&[0x4d, 0x01, 0xca], "add %r9, %r10"),
    (&[0x4d, 0x31, 0xd6], "xor %r10, %r14"),
    (&[0x4d, 0x01, 0xf7], "add %r14, %r15"),
    (&[0xff, 0xc9], "dec %ecx"),
    (&[0x75, 0xd7], "jne 5"),
];

#[rustfmt::skip]
const SHOW_MARK: &[Line] = &[
    (&[0xba, 0xe1, 0x04, 0x00, 0x00], "mov $0x4e1, %edx"),
    (&[0xee], "out %al, %dx"),
    (&[0x41, 0xf6, 0xc5, 0x04], "test $4, %r13b"),
    (&[0x74, 0x10], "je 0x000000000000013d"),
    (&[0x41, 0x8e, 0xd5], "mov %r13d, %ss"),
    (&[0xba, 0xe2, 0x04, 0x00, 0x00], "mov $0x4e2, %edx"),
    (&[0xee], "out %al, %dx"),
    (&[0xba, 0x2b, 0x00, 0x00, 0x00], "mov $0x2b, %edx"),
    (&[0x8e, 0xd2], "mov %edx, %ss"),
];

#[rustfmt::skip]
const SHOW_SUM: &[Line] = &[
    (&[0x9c], "pushf"),
    (&[0x81, 0x24, 0x24, 0xff, 0xfb, 0xfb, 0xff], "andl $0xfffbfbff, (%rsp)"),
    (&[0x9d], "popf"),
    (&[0x48, 0x01, 0xe8], "add %rbp, %rax"),
    (&[0x48, 0x01, 0xf0], "add %rsi, %rax"),
    (&[0x48, 0x01, 0xf8], "add %rdi, %rax"),
    (&[0x4c, 0x01, 0xc0], "add %r8, %rax"),
    (&[0x4c, 0x01, 0xd0], "add %r10, %rax"),
    (&[0x4c, 0x01, 0xf0], "add %r14, %rax"),
    (&[0x4c, 0x01, 0xf8], "add %r15, %rax"),
    (&[0x48, 0x89, 0xc2], "mov %rax, %rdx"),
    (&[0x48, 0xc1, 0xea, 0x20], "shr $0x20, %rdx"),
    (&[0x31, 0xd0], "xor %edx, %eax"),
    (&[0xba, 0xe4, 0x04, 0x00, 0x00], "mov $0x4e4, %edx"),
    (&[0xef], "out %eax, %dx"),
    (&[0xb8, 0x6e, 0x00, 0x00, 0x00], "mov $0x6e, %eax"),
    // RSP, which the lab may make any other
    (&[0x49, 0x89, 0xe1], "mov %rsp, %r9"),
    (&[0x0f, 0x05], "syscall"),
    (&[0x4c, 0x89, 0xcc], "mov %r9, %rsp"),
    (&[0x41, 0xf6, 0xc4, 0x0f], "test $0xf, %r12b"),
    (&[0x0f, 0x85, 0xf9, 0xfe, 0xff, 0xff], "jne 0x00000000000000a8"),
    (&[0x68, 0x80, 0x84, 0x1e, 0x00], "push $0x1e8480"),
    (&[0x6a, 0x00], "push $0"),
    (&[0x48, 0x89, 0xe7], "mov %rsp, %rdi"),
    (&[0x31, 0xf6], "xor %esi, %esi"),
    (&[0xb8, 0x23, 0x00, 0x00, 0x00], "mov $0x23, %eax"),
    (&[0x0f, 0x05], "syscall"),
    (&[0x48, 0x83, 0xc4, 0x10], "add $0x10, %rsp"),
    (&[0xe9, 0xdd, 0xfe, 0xff, 0xff], "jmp 0x00000000000000a8"),
    // fail:
    (&[0xb8, 0x3c, 0x00, 0x00, 0x00], "mov $0x3c, %eax"),
    (&[0xbf, 0x01, 0x00, 0x00, 0x00], "mov $1, %edi"),
    (&[0x0f, 0x05], "syscall"),
];

/// What the program writes to its heartbeat port, each time.
pub fn checksum() -> u32 {
    let (mut a, mut bp, mut si, mut di, mut r8, mut r10, mut r14, mut r15) =
        (SEED, SEED, SEED, SEED, SEED, SEED, SEED, SEED);
    for count in (1..=HALF).rev().chain((1..=HALF).rev()) {
        a = a.wrapping_add(count).wrapping_mul(SEED).rotate_left(13);
        bp ^= a;
        si = si.wrapping_add(bp);
        di = si.wrapping_add(di.wrapping_mul(2));
        r8 ^= di;
        r10 = r10.wrapping_add(r8);
        r14 ^= r10;
        r15 = r15.wrapping_add(r14);
    }
    let sum = [bp, si, di, r8, r10, r14, r15].iter().fold(a, |sum, r| sum.wrapping_add(*r));
    (sum ^ sum >> 32) as u32
}

fn lines() -> impl Iterator<Item = &'static Line> {
    PARTS.iter().flat_map(|part| part.iter())
}

/// Where its checksum begins, with all registers in use, and the program's code.
pub fn work() -> (u64, std::ops::Range<u64>) {
    let bytes = |parts: &[&[Line]]| -> u64 { parts.iter().flat_map(|p| p.iter()).map(|(b, _)| b.len() as u64).sum() };
    let start = BASE + HEADERS as u64;
    (start + bytes(&PARTS[..1]) + CHECKSUM[0].0.len() as u64, start..start + bytes(&PARTS))
}

/// The program as a static ELF file of one segment.
pub fn elf() -> Vec<u8> {
    let code: Vec<u8> = lines().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let len = (HEADERS + code.len()) as u64;
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |out: &mut Vec<u8>, words: &[u16]| words.iter().for_each(|w| out.extend(w.to_le_bytes()));
    let long = |out: &mut Vec<u8>, words: &[u64]| words.iter().for_each(|w| out.extend(w.to_le_bytes()));
    half(&mut out, &[2, 62, 1, 0]); // executable, x86-64, version 1
    long(&mut out, &[BASE + HEADERS as u64, 64, 0]); // entry, program headers, no sections
    half(&mut out, &[0, 0, 64, 56, 1, 64, 0, 0]); // flags, sizes and counts
    half(&mut out, &[1, 0, 5, 0]); // PT_LOAD, readable and executable
    long(&mut out, &[0, BASE, BASE, len, len, 0x1000]);
    out.extend(code);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_what_the_text_says() {
        let mut at = 0u64;
        for part in PARTS {
            let mut ip = if std::ptr::eq(part, CHECKSUM) { 0 } else { at };
            for (bytes, text) in part {
                let d = crate::image::Code::decode(64, bytes, ip).unwrap();
                assert_eq!(d.insn.len(), bytes.len(), "{text}");
                assert_eq!(d.text(), *text);
                ip += bytes.len() as u64;
                at += bytes.len() as u64;
            }
        }
    }

    #[test]
    fn it_is_an_elf_file_that_loaders_take() {
        use object::{Object, ObjectSegment};
        let bytes = elf();
        let file = object::File::parse(&*bytes).unwrap();
        assert_eq!(file.entry(), BASE + HEADERS as u64);
        assert_eq!(file.segments().next().unwrap().size(), bytes.len() as u64);
    }
}
