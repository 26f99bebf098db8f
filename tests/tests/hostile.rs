//! Guests that do what no guest should: each comes to a verdict or an error, within seconds, in
//! every gear and in a search; and no case sees what another has left behind.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Done, gcc, vmm};
use serde_json::Value;

/// What the NMI handler does before it goes back, by name; and what its run must say.
type Kind = (&'static str, &'static str, &'static str);

const KINDS: &[Kind] = &[
    // Hypercalls that a running guest may not make, or with pointers to nowhere.
    ("ready again", "outl %eax, $NMI_LAB_PORT_READY", "I18"),
    ("the end inside an NMI", "outl %eax, $NMI_LAB_PORT_SCENARIO_END", "I6"),
    ("a panic from nowhere", "movq $1 << 63, %rdi\n movq $-1, %rsi\n outl %eax, $NMI_LAB_PORT_PANIC", "I18"),
    ("a view from nowhere", "movq $1 << 63, %rdi\n outl %eax, $NMI_LAB_PORT_BODY_BEGIN", "I4"),
    ("a view across the end of RAM", "movq $0x1ffff8, %rdi\n outl %eax, $NMI_LAB_PORT_BODY_BEGIN", "I4"),
    ("a PV call in mode native", "movl $23, %eax\n outl %eax, $NMI_LAB_PORT_PV", "shutdown"),
    ("ERETS without FRED", "outl %eax, $NMI_LAB_PORT_ERETS", "shutdown"),
    // Storms.
    ("writes to a port", "1: movw $0x80, %dx\n outl %eax, %dx\n jmp 1b", "I18"),
    ("reads of a port", "1: movw $0x80, %dx\n inl %dx, %eax\n jmp 1b", "host-limit"),
    ("ends of bodies", "1: outl %eax, $NMI_LAB_PORT_BODY_END\n jmp 1b", "I5"),
    ("the clock", "1: rdtsc\n jmp 1b", "livelock"),
    // Stacks, jumps and tables to anywhere.
    ("RSP not canonical", "movq $1 << 63, %rsp\n pushq $1", "I9"),
    ("RSP at the top", "movq $-8, %rsp\n pushq $1", "I9"),
    ("RSP at the end of RAM", "movq $0x200000, %rsp\n pushq $1", "I9"),
    ("RSP in the code", "movq $work.a, %rsp\n pushq $1", "I9"),
    ("a call to itself", "1: call 1b", "I9"),
    ("a jump that is not canonical", "movq $1 << 63, %rax\n jmp *%rax", "I18"),
    ("a jump to what is not mapped", "movq $0x40000000, %rax\n jmp *%rax", "I18"),
    ("a jump into data", "movq $idt, %rax\n jmp *%rax", "outside"),
    ("page tables of anything", "movq $0x123000, %rax\n movq %rax, %cr3", "shutdown"),
    ("page tables beyond RAM", "movq $0x7ffff000, %rax\n movq %rax, %cr3", "shutdown"),
    ("an empty IDT", "lidt z\n ud2\n .section .rodata\n z: .fill 10, 1, 0\n .text", "shutdown"),
    (
        "an empty GDT",
        "lgdt z\n movl $0x10, %eax\n movl %eax, %ss\n .section .rodata\n z: .fill 10, 1, 0\n .text",
        "shutdown",
    ),
    ("a TSS from nowhere", "movl $0xfff8, %eax\n ltr %ax", "I18"),
    // Control registers and MSRs.
    ("no protected mode", "xorl %eax, %eax\n movq %rax, %cr0", "I18"),
    ("no PAE", "xorl %eax, %eax\n movq %rax, %cr4", "I18"),
    ("no long mode", "movl $0xc0000080, %ecx\n xorl %eax, %eax\n xorl %edx, %edx\n wrmsr", "I18"),
    ("a GS base that is not canonical", "movl $0xc0000101, %ecx\n movl $1 << 31, %edx\n wrmsr", "I18"),
    ("an MSR that there is not", "movl $0x12345, %ecx\n wrmsr", "I18"),
    ("DR6 left changed", "movl $0xffff4ff0, %eax\n movq %rax, %dr6", "I6"),
    // Code that changes.
    ("a write to its code", "movq $1f, %rax\n movb $0x90, (%rax)\n 1: nop", "outside"),
    ("vmcall, which KVM may write over", "vmcall", ""),
    ("vmmcall, which KVM may write over", "vmmcall", ""),
    // What does not end.
    ("a jump to itself", "jmp .", "livelock"),
    ("a counter in memory", "1: incq stack_low\n jmp 1b", "livelock"),
    ("HLT", "1: hlt\n jmp 1b", "I18"),
    ("2^64 reads", "movq $-1, %rcx\n xorl %esi, %esi\n rep lodsq", ""),
    ("2^64 writes", "movq $-1, %rcx\n movq $stack_low, %rdi\n rep stosb", "outside"),
    ("2^64 reads of a port", "movq $-1, %rcx\n movq $stack_low, %rdi\n movw $0x80, %dx\n rep insb", "host-limit"),
    ("a shadow without end", "1: movl %ss, %eax\n movl %eax, %ss\n jmp 1b", "livelock"),
    // Faults.
    ("an interrupt by software", "int $0x80", ""),
    ("#BP", "int3", "I18"),
    ("no instruction", ".fill 15, 1, 0x66\n nop", "I18"),
    ("a trap for each instruction", "pushq $0x102\n popfq\n nop", "I18"),
    (
        "an iretq to itself",
        "movq %rsp, %rdx\n pushq $0x10\n pushq %rdx\n pushq $2\n pushq $8\n pushq $1f\n 1: iretq",
        "I8",
    ),
    ("an iretq to nowhere", "pushq $0x10\n pushq $-8\n pushq $-1\n pushq $8\n pushq $0\n iretq", "I8"),
];

/// What one command may take. They take a second or two on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(90);

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/proof")
}

/// The guest of tests/guests/proof whose NMI handler does this.
fn build(dir: &Path, code: &str) -> PathBuf {
    let (source, elf) = (dir.join("hostile.S"), dir.join("hostile.elf"));
    std::fs::write(&source, format!("#include \"kind.h\"\n .globl on_nmi\non_nmi:\n {code}\n ret\n")).unwrap();
    let include = |dir: &Path| format!("-I{}", dir.display());
    let script = format!("-Wl,-T,{}", sources().join("guest.ld").display());
    let mut gcc = Command::new("gcc");
    gcc.args(["-DFLAT", &include(&gcc::examples().join("include")), &include(&sources())]);
    gcc.args(["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,--defsym=HIGH=0"]);
    gcc::must(gcc.arg(script).arg("-o").arg(&elf).arg(sources().join("guest.S")).arg(source));
    elf
}

#[track_caller]
fn timed(name: &str, args: &[&str]) -> Done {
    let begin = Instant::now();
    let done = vmm(args);
    assert!(begin.elapsed() < PATIENCE, "{name}: {args:?} took {:?}", begin.elapsed());
    assert!(matches!(done.code, 0 | 1 | 65), "{name}: {args:?} exits {}: {}", done.code, done.stderr);
    done
}

#[test]
fn some_come_to_the_same_verdict_in_every_gear_and_in_a_search() {
    come_to_the_same(KINDS.iter().step_by(5));
}

#[test]
#[ignore = "long: the step 'Long tests' of .ci/run"]
fn each_comes_to_the_same_verdict_in_every_gear_and_in_a_search() {
    come_to_the_same(KINDS.iter());
}

fn come_to_the_same(kinds: impl Iterator<Item = &'static Kind>) {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, code, right) in kinds {
        let elf = build(dir.path(), code);
        let what = ["--guest", elf.to_str().unwrap(), "--scheme", "kind", "--scenario", "sum"];
        let found = timed(name, &[&["explore"], &what[..]].concat());
        let run = [&["run"], &what[..], &["--schedule", "nmi@work.b", "--gear", "all"]].concat();
        let run = timed(name, &run);
        assert_eq!(run.code, found.code, "{name}: {}{}\n{}{}", run.stdout, run.stderr, found.stdout, found.stderr);
        if right.is_empty() {
            continue; // hosts differ in what they make of it
        }
        for done in [run, found] {
            let said = [&*done.stdout, &*done.stderr].concat();
            assert_ne!(done.code, 0, "{name}: {said}");
            assert!(said.contains(right), "{name}: {right} is not in: {said}");
            assert!(!said.contains("disagree, which"), "{name}: {said}");
        }
    }
}

/// One NMI at each boundary: how many cases came to what, and by which schedule.
fn rows(name: &str, args: &[&str]) -> Value {
    let done = timed(name, &[args, &["--json"]].concat());
    match done.code {
        65 => Value::String(done.stderr),
        _ => done.json()["rows"].clone(),
    }
}

/// By schedule, whatever the order: what each case of a list came to.
fn one_by_one(name: &str, elf: &str, dir: &Path, places: &[&str]) -> Value {
    let list = places.iter().map(|p| format!("\"nmi@{p}\"")).collect::<Vec<_>>().join(", ");
    let file = dir.join("list.toml");
    let text =
        format!("name = \"l\"\nschemes = [\"kind\"]\nscenarios = [\"sum\"]\ngenerate = {{ schedules = [{list}] }}\n");
    std::fs::write(&file, text).unwrap();
    let rows = rows(name, &["campaign", "--guest", elf, file.to_str().unwrap(), "--jobs", "1"]);
    let row = &rows[0];
    serde_json::json!([row["verdict"], row["invariant"], row["counts"], row["disagreements"]])
}

#[test]
fn verdicts_do_not_depend_on_jobs_shards_or_order() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("points.toml");
    let text = "name = \"p\"\nschemes = [\"kind\"]\nscenarios = [\"sum\"]\ngenerate = \"points\"\nrecheck = 3\n";
    std::fs::write(&file, text).unwrap();
    // Each of these leaves something behind: in the vCPU, half an instruction, in the tables.
    let kept = [
        "reads of a port",
        "a view from nowhere",
        "page tables of anything",
        "an empty IDT",
        "an empty GDT",
        "no long mode",
        "an MSR that there is not",
        "DR6 left changed",
        "2^64 reads of a port",
        "HLT",
        "a jump to what is not mapped",
        "RSP at the end of RAM",
        "a trap for each instruction",
    ];
    for (name, code, _) in KINDS.iter().filter(|(name, ..)| kept.contains(name)) {
        let elf = build(dir.path(), code);
        let elf = elf.to_str().unwrap();
        let campaign = ["campaign", "--guest", elf, file.to_str().unwrap()];
        let all = rows(name, &[&campaign[..], &["--jobs", "1"]].concat());
        for jobs in ["2", "3"] {
            assert_eq!(rows(name, &[&campaign[..], &["--jobs", jobs]].concat()), all, "{name}: {jobs} jobs");
        }
        if all.is_array() {
            let (one, two) = (dir.path().join("one"), dir.path().join("two"));
            for (out, shard) in [(&two, "1/2"), (&one, "0/2")] {
                let args = [&campaign[..], &["--shard", shard, "--fresh", "--out", out.to_str().unwrap()]].concat();
                timed(name, &args);
            }
            let merged = rows(name, &["merge", one.to_str().unwrap(), two.to_str().unwrap()]);
            assert_eq!(merged, all, "{name}: shards");
        }
        let places = ["work.a", "work.a+0x6", "work.b", "work.b+0x6"];
        let reversed: Vec<&str> = places.iter().rev().copied().collect();
        let (there, back) = (one_by_one(name, elf, dir.path(), &places), one_by_one(name, elf, dir.path(), &reversed));
        assert_eq!(there, back, "{name}: the order of cases");
    }
}
