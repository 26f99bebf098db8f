//! Small guests whose handler leaves a bit somewhere, and finds it there, by what it sees of the
//! contexts that it interrupts.

use std::fmt::Write;

use vmm::cpu::conform::Random;

use super::build::{MADE, Made};
use super::hides::place;
use super::looks::look;
use super::work::work;
use super::{Error, Mutant, Toolchain};

/// What is wrong with the handler once it has found what it looks for.
const EFFECTS: [&str; 10] = [
    "movq $0xbad, 72(%rdi)",
    "xorq $1, 0(%rdi)",
    "xorl $1, 144(%rdi)",
    "incq 128(%rdi)",
    "movq 152(%rdi), %rax\n xorb $1, (%rax)",
    "xorb $1, cell",
    "movl $0xbad, work.result",
    "5: jmp 5b",
    "subq $8, 152(%rdi)",
    "movq $0x18, %rax\n movl %eax, %es\n movl $0x10, %eax\n movl %eax, %es",
];

/// Instructions that must change nothing.
const IDLE: [&str; 22] = [
    "sgdt scratch\n movq $0, scratch\n movw $0, scratch + 8",
    "sidt scratch\n movq $0, scratch\n movw $0, scratch + 8",
    "str %eax",
    "smsw %eax",
    "pushfq\n popfq",
    "pushfq\n orl $0x40001, (%rsp)\n popfq\n pushq $2\n popfq",
    "lahf\n sahf",
    "pushq %fs\n popq %fs",
    "movl %ds, %eax\n movl %eax, %ds",
    "xchgq %rax, %rcx",
    "enter $32, $0\n leave",
    "lock xaddq %rax, scratch\n movq $0, scratch",
    "cmpxchg8b scratch",
    "movq $scratch, %rsi\n movq %rdi, %r12\n movq $scratch + 8, %rdi\n movl $8, %ecx\n rep movsb\n movq %r12, %rdi",
    "nopw 0(%rax, %rax)",
    "movabsq scratch, %rax",
    "call 1f\n1: popq %rax",
    "std\n movq $scratch, %rsi\n lodsq\n cld",
    "clc\n rclq $3, %rax\n rcrb $1, scratch + 4\n movb $0, scratch + 4",
    "movw %ax, %cx\n movb %ch, %dl",
    "verr %ax",
    "larl %eax, %ecx",
];

/// The guest of this number.
pub fn entry(tools: &Toolchain, seed: u64) -> Result<Mutant, Error> {
    let mut random = Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1b);
    let random = &mut random;
    let made = MADE[[0, 0, 1, 1, 1, 2][random.below(6) as usize]];
    let (aliased, executable) = (random.once_in(5), random.once_in(6));
    let work = work(random);
    let hook = if made == Made::Nested && random.once_in(2) { "on_again" } else { "on_nmi" };
    let mut prepare = String::new();
    let mut code = String::new();
    for i in 0..random.below(3) {
        // The last two are instructions that not every KVM can execute.
        let most = if i == 0 && random.once_in(12) { IDLE.len() } else { IDLE.len() - 2 };
        let idle = IDLE[random.below(most as u64) as usize];
        let _ = writeln!(code, " {idle}");
    }
    match random.below(4) {
        // One look is enough.
        0 => {
            let condition = look(random, &work, "one", "one.not");
            let _ = writeln!(code, " {condition}\n {}\none.not:", effect(random));
        }
        // Two looks at one context.
        1 => {
            let (first, second) = (look(random, &work, "one", "one.not"), look(random, &work, "two", "one.not"));
            let _ = writeln!(code, " {first}\n {second}\n {}\none.not:", effect(random));
        }
        // One NMI leaves a bit, and a later one finds it.
        _ => {
            let place = place(random, aliased, executable);
            prepare.push_str(&place.prepare);
            let (first, second) = (look(random, &work, "one", "one.not"), look(random, &work, "two", "two.not"));
            let _ = writeln!(
                code,
                " {}\n movl %eax, %r8d\n testl %eax, %eax\n jz one.not\n {first}\n {}\none.not:",
                place.load,
                effect(random)
            );
            let _ = match random.below(3) {
                0 => writeln!(code, " {second}\n movl $1, %eax\n {}\ntwo.not:", place.store),
                1 => writeln!(
                    code,
                    " {second}\n movl $1, %eax\n jmp two.store\ntwo.not: xorl %eax, %eax\ntwo.store: {}",
                    place.store
                ),
                _ => writeln!(code, " {second}\n movl %r8d, %eax\n xorl $1, %eax\n {}\ntwo.not:", place.store),
            };
        }
    }
    // What the handler keeps for itself; everything else must stay as it is.
    let note = "scratch low=scratch high=scratch.end\\n";
    let text = format!(
        "    .text\n    .globl {hook}, prepare, more_work\n{hook}:\n pushq %rdi\n{code} popq %rdi\n ret\nprepare:\n {prepare}\n ret\n{}    .bss\n    .balign 16\ncell: .skip 8\nround: .skip 8\nbuffer: .skip 16\nwork.result: .skip 8\n    .balign 16\nscratch: .skip 64\nhidden: .skip 64\nscratch.end:\ngdt: .skip 32\n    .section .note.nmi_lab, \"a\", @note\n    .balign 4\n    .long 8, 9f - 8f, 1\n    .asciz \"NMI-LAB\"\n8: .ascii \"{note}\"\n9: .balign 4\n",
        work.text
    );
    tools.mutant(
        format!(
            "entry {seed}: {made:?}{}{}",
            if aliased { ", aliased" } else { "" },
            if executable { ", executable" } else { "" }
        ),
        made,
        aliased,
        executable,
        text,
    )
}

fn effect(random: &mut Random) -> &'static str {
    // The plainest is as likely as all others together.
    if random.once_in(2) { EFFECTS[0] } else { EFFECTS[random.below(EFFECTS.len() as u64) as usize] }
}
