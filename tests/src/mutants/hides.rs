//! Places where an NMI can leave a bit for a later one, and ways to put it there.

use vmm::cpu::conform::Random;

use super::build::HIGH;

/// A place. `load` brings the bit to EAX; `store` takes it from there. Both may use RCX, RDX, RSI
/// and R8 to R11.
pub struct Place {
    /// Code.
    pub load: String,
    /// Code.
    pub store: String,
    /// Code before *ready*.
    pub prepare: String,
}

/// Picks one.
pub fn place(random: &mut Random, aliased: bool, executable: bool) -> Place {
    match random.below(10) {
        0 => register(random),
        1 if executable => own_code(),
        2 => table(random),
        _ => memory(random, aliased),
    }
}

fn of(load: &str, store: &str) -> Place {
    Place { load: load.to_owned(), store: store.to_owned(), prepare: String::new() }
}

/// A register that is not a general one.
fn register(random: &mut Random) -> Place {
    let msrs = [
        "0x174",
        "0x175",
        "0x176",
        "0xc0000081",
        "0xc0000082",
        "0xc0000083",
        "0xc0000084",
        "0xc0000103",
        "0xc0000100",
        "0xc0000101",
        "0xc0000102",
    ];
    match random.below(15) {
        0..=3 => {
            let msr = msrs[random.below(msrs.len() as u64) as usize];
            let load = format!("movl ${msr}, %ecx\n rdmsr\n shrl $4, %eax\n andl $1, %eax");
            let store = format!("movl ${msr}, %ecx\n xorl %edx, %edx\n shll $4, %eax\n wrmsr");
            of(&load, &store)
        }
        4 => of("movq %cr8, %rax", "movq %rax, %cr8"),
        5 => {
            let n = random.below(4);
            of(&format!("movq %dr{n}, %rax"), &format!("movq %rax, %dr{n}"))
        }
        6 => of(
            "movq %dr7, %rax\n shrl $16, %eax\n andl $1, %eax",
            "shll $16, %eax\n orl $0x400, %eax\n movq %rax, %dr7",
        ),
        7 => of("movq %dr6, %rax\n andl $1, %eax", "orl $0xffff0ff0, %eax\n movl %eax, %eax\n movq %rax, %dr6"),
        8 => of("movq %cr2, %rax\n andl $1, %eax", "movq %rax, %cr2"),
        9 => {
            let bit = random.pick(&[2, 3, 8, 9, 10]);
            let load = format!("movq %cr4, %rax\n shrl ${bit}, %eax\n andl $1, %eax");
            let store =
                format!("movq %cr4, %rcx\n btrl ${bit}, %ecx\n shll ${bit}, %eax\n orl %eax, %ecx\n movq %rcx, %cr4");
            of(&load, &store)
        }
        10 => {
            let bit = random.pick(&[1, 3, 5, 18]);
            let load = format!("movq %cr0, %rax\n shrl ${bit}, %eax\n andl $1, %eax");
            let store =
                format!("movq %cr0, %rcx\n btrq ${bit}, %rcx\n shll ${bit}, %eax\n orq %rax, %rcx\n movq %rcx, %cr0");
            of(&load, &store)
        }
        11 => {
            let s = ["es", "ds", "fs", "gs"][random.below(4) as usize];
            let load = format!("movl %{s}, %eax\n andl $1, %eax");
            let store = format!("movl %eax, %{s}");
            of(&load, &store)
        }
        12 => of(
            "movq %cr3, %rax\n shrl $3, %eax\n andl $1, %eax",
            "movq %cr3, %rcx\n andq $~8, %rcx\n shll $3, %eax\n orq %rax, %rcx\n movq %rcx, %cr3",
        ),
        13 => of("sldt %eax\n andl $1, %eax", "lldt %ax"),
        _ => of("movd %xmm0, %eax", "movd %eax, %xmm0"),
    }
}

/// A byte of the handler's own code.
fn own_code() -> Place {
    of(
        "movb own.byte + 1, %al\n andl $1, %eax\n jmp own.on\n .pushsection .data\nown.byte: movl $0, %eax\n ret\n .popsection\nown.on:\n movb %al, own.byte + 1\n call own.byte",
        "movb %al, own.byte + 1",
    )
}

/// Tables of the CPU's.
fn table(random: &mut Random) -> Place {
    let gdt = "movq 0x508, %rax\n movq %rax, gdt + 8\n movq 0x510, %rax\n movq %rax, gdt + 16\n movq %rax, gdt + 24\n movw $31, scratch\n movq $gdt, scratch + 2\n lgdt scratch\n movq $0, scratch\n movw $0, scratch + 8\n";
    let gdt_size = "sgdt scratch\n movzwl scratch, %eax\n movq $0, scratch\n movw $0, scratch + 8\n";
    match random.below(5) {
        0 => Place {
            load: format!("{gdt_size} shrl $3, %eax\n andl $1, %eax\n xorl $1, %eax"),
            store: "xorl $1, %eax\n shll $3, %eax\n orl $23, %eax\n movw %ax, scratch\n movq $gdt, scratch + 2\n lgdt scratch\n movq $0, scratch\n movw $0, scratch + 8".to_owned(),
            prepare: gdt.to_owned(),
        },
        1 => of(
            "sidt scratch\n movzwl scratch, %eax\n movq $0, scratch\n movw $0, scratch + 8\n andl $1, %eax\n xorl $1, %eax",
            "xorl $1, %eax\n orl $510, %eax\n movw %ax, scratch\n movq $idt, scratch + 2\n lidt scratch\n movq $0, scratch\n movw $0, scratch + 8",
        ),
        2 => of("movb idt + 16 * 9 + 12, %al\n andl $1, %eax", "movb %al, idt + 16 * 9 + 12"),
        // The accessed bit, which only the CPU sets.
        3 => Place {
            load: "movb gdt + 29, %al\n andl $1, %eax".to_owned(),
            store: "testl %eax, %eax\n jz 7f\n movl %es, %ecx\n movl $0x18, %eax\n movl %eax, %es\n movl %ecx, %es\n jmp 6f\n7: andb $~1, gdt + 29\n6:".to_owned(),
            prepare: format!("{gdt} andb $~1, gdt + 29"),
        },
        // A descriptor that is present or not.
        _ => Place {
            load: "movb gdt + 29, %al\n shrb $7, %al\n andl $1, %eax\n xorl $1, %eax".to_owned(),
            store: "xorl $1, %eax\n shll $7, %eax\n andb $0x7f, gdt + 29\n orb %al, gdt + 29".to_owned(),
            prepare: gdt.to_owned(),
        },
    }
}

/// Memory: below the stack pointer, in a stack's depths, or elsewhere.
fn memory(random: &mut Random, aliased: bool) -> Place {
    let at = match random.below(5) {
        0 => "cell".to_owned(),
        1 => format!("hidden + {}", random.below(24)),
        // On the handler's own part of the stack, where its frame or its calls may lie.
        2 => format!("stack_low + {}", 700 + random.below(200)),
        _ => format!("stack_low + {}", 64 + random.below(300)),
    };
    let other = if aliased { format!("{at} - {HIGH:#x}") } else { at.clone() };
    let distance = 8 * (1 + random.below(20));
    let load = match random.below(12) {
        0 | 1 => format!("movl {at}, %eax\n andl $1, %eax"),
        2 => format!("movzbl {other}, %eax\n andl $1, %eax"),
        3 => format!(
            "movl ${}, %ecx\n movq ${at} - {distance}, %rdx\n xorl %eax, %eax\n btq %rcx, (%rdx)\n adcl $0, %eax",
            distance * 8
        ),
        4 => format!(
            "movl $-{}, %ecx\n movslq %ecx, %rcx\n movq ${at} + {distance}, %rdx\n btq %rcx, (%rdx)\n sbbl %eax, %eax\n negl %eax",
            distance * 8
        ),
        5 => {
            format!("movq %rbx, %r11\n movq ${at} - 33, %rbx\n movb $33, %al\n xlatb\n movq %r11, %rbx\n andl $1, %eax")
        }
        6 => format!("xorl %eax, %eax\n xaddb %al, {at}\n andl $1, %eax"),
        7 => format!("movq ${at}, %rsi\n xorl %eax, %eax\n lodsb\n andl $1, %eax"),
        8 => format!("movl $1, %eax\n xorl %ecx, %ecx\n movb {at}, %cl\n andb $1, %cl\n cmpb %cl, %al\n sete %al"),
        9 => format!("movb $1, %al\n movb $1, %cl\n lock cmpxchgb %cl, {at}\n sete %al\n andl $1, %eax"),
        10 => format!("movq %rsp, %r11\n movq ${at}, %rsp\n popq %rax\n movq %r11, %rsp\n andl $1, %eax"),
        _ => format!("movl ${other}, %edx\n addr32 movl (%edx), %eax\n andl $1, %eax"),
    };
    let store = match random.below(11) {
        0 | 1 => format!("movb %al, {at}"),
        2 => format!("movl %eax, {other}"),
        3 => format!("movq %rax, {at}"),
        4 => format!(
            "movl ${}, %ecx\n movq ${at} - {distance}, %rdx\n testl %eax, %eax\n jz 7f\n btsq %rcx, (%rdx)\n jmp 6f\n7: btrq %rcx, (%rdx)\n6:",
            distance * 8
        ),
        5 => format!("movq %rdi, %r11\n movq ${at}, %rdi\n movl $3, %ecx\n rep stosb\n movq %r11, %rdi"),
        6 => format!("xchgb %al, {at}"),
        7 => format!(
            "testl %eax, %eax\n jz 7f\n incb {at}\n andb $3, {at}\n jmp 6f\n7: incb {at}\n incb {at}\n andb $3, {at}\n6:"
        ),
        8 => format!("xorb %al, {at}"),
        9 => format!("movq %rsp, %r11\n movq ${at} + 8, %rsp\n pushq %rax\n movq %r11, %rsp"),
        _ => format!("andb $0xfe, {at}\n orb %al, {at}"),
    };
    of(&load, &store)
}
