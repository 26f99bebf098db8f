//! The code that NMIs interrupt: contexts that differ in a little.

use std::fmt::Write;

use vmm::cpu::conform::Random;

/// The interrupted code, and what a look at it can hope to find.
pub struct Work {
    /// The function `more_work`.
    pub text: String,
    /// Labels of its instructions.
    pub labels: Vec<String>,
    /// What some registers hold somewhere: offset in `struct nmi_lab_regs`, and value.
    pub values: Vec<(u64, u64)>,
}

/// Registers that the work may change, with their offsets in `struct nmi_lab_regs`.
const FREE: [(&str, &str, u64); 7] = [
    ("%r15", "%r15d", 0),
    ("%r14", "%r14d", 8),
    ("%r13", "%r13d", 16),
    ("%r12", "%r12d", 24),
    ("%rbx", "%ebx", 40),
    ("%r9", "%r9d", 64),
    ("%rdx", "%edx", 96),
];

/// Values that look like what a handler may look for.
const VALUES: [u64; 12] = [0, 1, 2, 7, 0x20, 0x80, 0xff, 0x8000, 0x1234, 0x1000_0000, 0x7fff_ffff, 5];

/// Makes one.
pub fn work(random: &mut Random) -> Work {
    let mut out = Work { text: String::from("    .globl more_work\nmore_work:\n"), labels: vec![], values: vec![] };
    let n = 2 + random.below(6);
    for i in 0..n {
        let label = format!("work.{i}");
        let _ = writeln!(out.text, "{label}:");
        out.labels.push(label);
        instruction(random, &mut out, i);
    }
    // The flags of each are those of the same test, so that contexts differ in few places.
    out.text.push_str("    ret\n");
    out
}

fn instruction(random: &mut Random, out: &mut Work, i: u64) {
    let (wide, narrow, offset) = FREE[random.below(FREE.len() as u64) as usize];
    let (other, ..) = FREE[random.below(FREE.len() as u64) as usize];
    let value = VALUES[random.below(VALUES.len() as u64) as usize];
    let text = match random.below(19) {
        0..=5 => {
            out.values.push((offset, value));
            format!("movl ${value:#x}, {narrow}")
        }
        6 => {
            out.values.push((offset, (value as i64).wrapping_neg() as u64));
            format!("movq $-{value:#x}, {wide}")
        }
        7 => format!("movq {other}, {wide}"),
        8 => ["stc", "clc", "cmc", "std\n    nop\n    cld"][random.below(4) as usize].to_owned(),
        9 => format!("testl {narrow}, {narrow}"),
        10 => format!("cmpl ${value:#x}, {narrow}"),
        11 => format!("pushq {wide}\n    nop\n    popq {other}"),
        12 => {
            let bytes = 8 * (1 + random.below(8));
            format!("leaq -{bytes}(%rsp), %rsp\n    nop\n    leaq {bytes}(%rsp), %rsp")
        }
        13 => format!(".rept {}\n    nop\n    .endr", [2, 3, 5, 9, 20, 70][random.below(6) as usize]),
        14 => format!("movl ${}, %ecx\n1:  decl %ecx\n    jnz 1b", 2 + random.below(2)),
        15 => format!("movq $buffer, %rdi\n    movl $3, %ecx\nwork.rep{i}:\n    rep stosb"),
        16 => "incl cell".to_owned(),
        17 => "pushfq\n    popq %r10".to_owned(),
        _ => format!("movl $2, round\n1:  xorl $1, cell\n    nop\n    nop\n    decl round\n    jnz 1b\n    # {i}"),
    };
    let _ = writeln!(out.text, "    {text}");
}
