//! Ways to look at the interrupted context, which stands at RDI.

use vmm::cpu::conform::Random;

use super::work::Work;

/// Offset of the frame in `struct nmi_lab_regs`.
pub const FRAME: u64 = 128;
/// Offset of RFLAGS.
const FLAGS: u64 = FRAME + 16;

/// Code that goes on where something of the context is so, and to `skip` where it is not. It
/// leaves RDI and RSP as they are. `tag` makes its labels its own.
pub fn look(random: &mut Random, work: &Work, tag: &str, skip: &str) -> String {
    if random.once_in(3) {
        return place(random, work, skip);
    }
    let (at, value) = match random.below(4) {
        0 => (FLAGS, [1u64, 0x40, 0x80, 4, 0x400, 2][random.below(6) as usize]),
        _ if !work.values.is_empty() => work.values[random.below(work.values.len() as u64) as usize],
        _ => (random.below(15) * 8, random.pick(&[1, 7, 0x20])),
    };
    // A bit that is set in the value, where one is.
    let bit = if value == 0 {
        random.below(32)
    } else {
        u64::from(value.trailing_zeros()) + (value.count_ones() > 1 && random.once_in(2)) as u64
    };
    let bit = bit.min(63);
    let (byte, mask) = (at + bit / 8, 1u64 << (bit % 8));
    let v32 = value as i32;
    let low = value & 0xff;
    let cc = ["c", "nc", "z", "nz", "s", "ns", "p", "l", "g", "be"][random.below(10) as usize];
    let base = random.below(16) * 8;
    let from_base = (at as i64 - base as i64) * 8 + bit as i64;
    let odd = at.saturating_sub(1 + random.below(6));
    let in_odd = 1u64.checked_shl(((at - odd) * 8 + bit) as u32).unwrap_or(0) as u32;
    let k = random.below(64);
    match random.below(40) {
        0 => format!("cmpq ${v32}, {at}(%rdi)\n jne {skip}"),
        1 => format!("btq ${bit}, {at}(%rdi)\n jnc {skip}"),
        2 => format!("movq ${from_base}, %rcx\n btq %rcx, {base}(%rdi)\n jnc {skip}"),
        3 => format!("leaq {byte}-{k}(%rdi), %rbx\n movb ${k}, %al\n xlatb\n testb ${mask}, %al\n jz {skip}"),
        4 => format!("movq ${v32}, %rax\n movq %rax, %rcx\n lock cmpxchgq %rcx, {at}(%rdi)\n jne {skip}"),
        5 => format!("xorl %eax, %eax\n xaddq %rax, {at}(%rdi)\n btq ${bit}, %rax\n jnc {skip}"),
        6 => format!("movl {odd}(%rdi), %eax\n testl ${in_odd:#x}, %eax\n jz {skip}"),
        7 => format!("movq {at}(%rdi), %rax\n andl $0x8d5, %eax\n pushq %rax\n popfq\n j{cc} {skip}"),
        8 => format!("movb {byte}(%rdi), %ah\n sahf\n j{cc} {skip}"),
        9 => {
            let op = ["rolq", "rorq", "shlq", "shrq", "sarq", "rclq", "rcrq"][random.below(7) as usize];
            let n = if matches!(op, "rolq" | "shlq" | "rclq") { 64 - bit } else { bit + 1 };
            format!("movq {at}(%rdi), %rax\n movb ${n}, %cl\n clc\n {op} %cl, %rax\n jnc {skip}")
        }
        10 => format!("bsfq {at}(%rdi), %rax\n jz {skip}\n cmpl ${bit}, %eax\n jne {skip}"),
        11 => format!("imulq ${}, {at}(%rdi), %rax\n btq ${bit}, %rax\n jnc {skip}", 1 + 2 * random.below(4)),
        12 => format!(
            "movq %rdi, %r12\n leaq {at}(%rdi), %rsi\n movq $9f, %rdi\n movl $4, %ecx\n repe cmpsb\n movq %r12, %rdi\n jne {skip}\n jmp 8f\n9: .quad {value:#x}\n8:"
        ),
        13 => format!(
            "movq %rdi, %r12\n leaq {at}(%rdi), %rdi\n movb ${low}, %al\n movl $8, %ecx\n repne scasb\n movq %r12, %rdi\n cmpl ${}, %ecx\n jne {skip}",
            random.below(8)
        ),
        14 => format!(
            "movq %rdi, %r12\n leaq {at}(%rdi), %rsi\n movq $scratch + 3, %rdi\n movsq\n movq %r12, %rdi\n cmpl ${v32}, scratch + 3\n jne {skip}"
        ),
        15 => format!(
            "movzbl {byte}(%rdi), %eax\n andl ${mask}, %eax\n cmpl $1, %eax\n sbbl %eax, %eax\n incl %eax\n jmp *{tag}.table(, %rax, 8)\n .balign 8\n{tag}.table: .quad {skip}, {tag}.on\n{tag}.on:"
        ),
        16 => format!(
            "movzbl {byte}(%rdi), %eax\n testb ${mask}, %al\n setnz %al\n andl $1, %eax\n movq {tag}.table(, %rax, 8), %rax\n pushq %rax\n ret\n .balign 8\n{tag}.table: .quad {skip}, {tag}.on\n{tag}.on:"
        ),
        17 => format!(
            "movq ${tag}.on, %rax\n movq ${skip}, %rcx\n testb ${mask}, {byte}(%rdi)\n cmovzq %rcx, %rax\n pushq $8\n pushq %rax\n lretq\n{tag}.on:"
        ),
        18 => format!("cmpq ${v32}, {at}(%rdi)\n sete %al\n testb %al, %al\n jz {skip}"),
        19 => format!(
            "movl $1, %eax\n xorl %ecx, %ecx\n cmpq ${v32}, {at}(%rdi)\n cmovneq %rcx, %rax\n testl %eax, %eax\n jz {skip}"
        ),
        20 => format!("cmpq ${v32}, {at}(%rdi)\n lahf\n testb $0x40, %ah\n jz {skip}"),
        21 => format!(
            "cmpq ${v32}, {at}(%rdi)\n pushfq\n popq %rax\n testb ${}, %al\n jz {skip}",
            [0x40, 1, 0x80, 4][random.below(4) as usize]
        ),
        22 => format!(
            "movzbl {at}(%rdi), %eax\n cmpb $0, {tag}.map(%rax)\n je {skip}\n jmp {tag}.on\n{tag}.map: .fill {low}, 1, 0\n .byte 1\n .fill 255 - {low}, 1, 0\n{tag}.on:"
        ),
        23 => format!(
            "movzbl {at}(%rdi), %ecx\n andl $3, %ecx\n xorl %eax, %eax\n jrcxz 2f\n1: incl %eax\n loop 1b\n2: cmpl ${}, %eax\n jne {skip}",
            value & 3
        ),
        24 => format!(
            "movq %rdi, %r12\n movzbl {at}(%rdi), %ecx\n andl $7, %ecx\n movq $scratch, %rdi\n xorl %eax, %eax\n movq %rax, scratch\n notl %eax\n rep stosb\n movq %r12, %rdi\n btl ${}, scratch\n jnc {skip}",
            8 * (value & 7).max(1) - 1
        ),
        25 => format!("movq {at}(%rdi), %rax\n bswapq %rax\n btq ${}, %rax\n jnc {skip}", (7 - bit / 8) * 8 + bit % 8),
        26 => format!("movzbl {at}(%rdi), %eax\n movb $3, %cl\n divb %cl\n cmpb ${}, %ah\n jne {skip}", low % 3),
        27 => format!(
            "movq {at}(%rdi), %rax\n {} %rax\n j{cc} {skip}",
            ["negq", "incq", "decq"][random.below(3) as usize]
        ),
        28 => format!(
            "xorl %eax, %eax\n movq {at}(%rdi), %rcx\n shldq ${}, %rcx, %rax\n btl $0, %eax\n jnc {skip}",
            64 - bit
        ),
        29 => format!("movl {at}(%edi), %eax\n btl ${}, %eax\n jnc {skip}", bit & 31),
        30 => format!(
            "movq %rsp, %r11\n leaq {at}(%rdi), %rsp\n popq %rax\n movq %r11, %rsp\n cmpl ${v32}, %eax\n jne {skip}"
        ),
        31 => format!(
            "movq %rdi, %r12\n leaq {at} + 7(%rdi), %rsi\n movl $8, %ecx\n xorl %eax, %eax\n std\n1: shlq $8, %rdx\n lodsb\n movb %al, %dl\n loop 1b\n cld\n cmpl ${v32}, %edx\n jne {skip}"
        ),
        32 => {
            let second = random.below(15) * 8;
            format!("movq {at}(%rdi), %rax\n cmpq {second}(%rdi), %rax\n j{cc} {skip}")
        }
        33 => format!(
            "movl %es, %r11d\n movl {at}(%rdi), %eax\n shlq ${}, %rax\n andl $0x10, %eax\n movl %eax, %es\n movl %es, %ecx\n movl %r11d, %es\n testl %ecx, %ecx\n jz {skip}",
            (68 - bit) % 64
        ),
        34 => format!("movq {at}(%rdi), %rax\n orb $2, %al\n j{cc} {skip}"),
        35 => format!(
            "movq {at}(%rdi), %rax\n movabsq $0x{:x}, %rcx\n orq %rcx, %rax\n btq ${bit}, %rax\n jnc {skip}",
            1u64 << 40 | 1 << 50
        ),
        36 => format!(
            "movq {at}(%rdi), %rax\n movl $4, %ecx\n 1: rolq $16, %rax\n loop 1b\n xchgb %al, %ah\n xchgb %ah, %al\n cmpl ${v32}, %eax\n jne {skip}"
        ),
        37 => format!("movq {at}(%rdi), %rax\n cqto\n subq %rdx, %rax\n btq ${bit}, %rax\n jnc {skip}"),
        38 => format!(
            "movq {at}(%rdi), %rax\n movq %rax, scratch + 5\n movzwl scratch + 5, %ecx\n cmpw ${}, %cx\n jne {skip}",
            value as i16
        ),
        _ => format!("movsbl {byte}(%rdi), %eax\n testl ${mask}, %eax\n jz {skip}"),
    }
}

/// Looks at where the context was interrupted.
fn place(random: &mut Random, work: &Work, skip: &str) -> String {
    let label = match random.below(4) {
        0 => ["work.a", "work.b"][random.below(2) as usize].to_owned(),
        _ => work.labels[random.below(work.labels.len() as u64) as usize].clone(),
    };
    match random.below(8) {
        0 | 1 => format!("cmpq ${label}, {FRAME}(%rdi)\n jne {skip}"),
        2 => format!("cmpq ${label}, {FRAME}(%rdi)\n jb {skip}"),
        3 => format!("movq {FRAME}(%rdi), %rax\n subq ${label}, %rax\n jnz {skip}"),
        4 => format!("movq {FRAME}(%rdi), %rax\n movzbl (%rax), %eax\n cmpb %al, {label}\n jne {skip}"),
        5 => format!("movl ${label}, %eax\n xorl {FRAME}(%rdi), %eax\n jnz {skip}"),
        6 => format!(
            "movq {}(%rdi), %rax\n cmpq $stack_high - {}, %rax\n jae {skip}",
            FRAME + 24,
            8 * (2 + random.below(8))
        ),
        _ => format!("leaq {label}(%rip), %rax\n cmpw %ax, {FRAME}(%rdi)\n jne {skip}"),
    }
}
