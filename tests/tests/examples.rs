//! The worked examples do what their READMEs show.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Done, gcc, vmm};

fn make(dir: &Path, args: &[&str]) {
    gcc::must(Command::new("make").arg("-B").args(args).current_dir(dir));
}

fn explore(image: &[&str], scheme: &str, scenario: &str) -> Done {
    vmm(&[&["explore", "--scheme", scheme, "--scenario", scenario], image].concat())
}

#[test]
fn minimal_asm_loses_an_nmi_until_it_is_mended() {
    if !gcc::is_there() {
        return;
    }
    let all = gcc::copied_examples();
    let dir = all.path().join("minimal-asm");
    let (elf, pairs) = (dir.join("minimal.elf"), dir.join("pairs.toml"));
    let (elf, pairs) = (elf.to_str().unwrap(), pairs.to_str().unwrap());
    make(&dir, &[]);
    let found = explore(&["--guest", elf], "mini", "sum").exits(1).stdout;
    assert!(found.contains("violation(I3: an NMI arrived and no body run began after it)"), "{found}");
    let schedule = found.lines().find_map(|l| l.trim().strip_prefix("schedule")).unwrap().trim().to_owned();
    assert!(schedule.contains("nmi@exit"), "{schedule}");

    // The trace shows source lines, and the replay line needs the same image.
    let run = ["run", "--guest", elf, "--scheme", "mini", "--scenario", "sum", "--schedule", &schedule, "--trace"];
    let trace = vmm(&run).exits(1).stdout;
    assert!(trace.contains("SOURCE") && trace.contains("minimal.S:"), "{trace}");
    let line = found.lines().find_map(|l| l.trim().strip_prefix("replay")).unwrap();
    let line = line.trim().trim_start_matches("vmm replay").trim().trim_matches('\'');
    vmm(&["replay", line, "--guest", elf]).exits(1);
    vmm(&["replay", line]).exits(65).says(&["--guest"]);

    make(&dir, &["FIXED=1"]);
    vmm(&["campaign", "--guest", elf, pairs]).exits(0);
}

#[test]
fn c_kernel_is_right_without_faults_and_wrong_with_them() {
    if !gcc::is_there() {
        return;
    }
    let all = gcc::copied_examples();
    let dir = all.path().join("c-kernel");
    make(&dir, &[]);
    let elf = dir.join("kernel.elf");
    let elf = ["--guest", elf.to_str().unwrap()];
    assert!(explore(&elf, "mine", "quiet").exits(0).stdout.contains("pass, closed"));
    assert!(explore(&elf, "mine", "fault").exits(1).stdout.contains("violation(I5"));
}

#[test]
fn entry_only_is_tested_in_the_built_in_kernel() {
    if !gcc::is_there() {
        return;
    }
    let all = gcc::copied_examples();
    let dir = all.path().join("entry-only");
    make(&dir, &[]);
    let object = dir.join("my_nmi.o");
    let entry = ["--entry", object.to_str().unwrap()];
    assert!(vmm(&["list", "schemes", entry[0], entry[1]]).exits(0).stdout.contains("mine"));
    assert!(explore(&entry, "mine", "quiet").exits(0).stdout.contains("pass, closed"));
    // The page has the source's lines, in the sandbox, too.
    let page = dir.join("page.html");
    explore(&[&entry[..], &["--html", page.to_str().unwrap()]].concat(), "mine", "quiet").exits(0);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("/* a fault in the body changes it */"), "{html}");
    assert!(explore(&entry, "mine", "short-vmalloc-fault").exits(1).stdout.contains("violation(I5"));
}

#[test]
fn objects_that_cannot_be_linked_exit_65() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("entry.o");
    let refused = |bytes: &[u8], says: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        vmm(&["list", "schemes", "--entry", path.to_str().unwrap()]).exits(65).says(says);
    };
    let asm = |text: &str| gcc::object("e.S", &format!("#include \"nmi_lab.h\"\n{text}\n"), &[]);
    let entry = ".globl nmi_entry\nnmi_entry: iretq\n";
    let with = |more: &str| asm(&format!("{entry}{more}"));
    refused(b"text", &["ELF magic"]);
    refused(vmm::image::file::BUILTIN, &["ET_EXEC", "gcc -c"]);
    refused(&asm("nop"), &["no global symbol \"nmi_entry\""]);
    refused(&asm("nmi_entry: iretq"), &["no global symbol \"nmi_entry\""]);
    refused(&with("call nobody"), &["undefined symbol \"nobody\""]);
    refused(&with(".globl nmi_body\nnmi_body: ret"), &["\"nmi_body\" is defined by the object and by the image"]);
    refused(&with(".data\n.quad 7"), &[".data", "initial values"]);
    refused(&with(".fill 9000, 1, 0x90"), &[".text", "do not fit", "8192"]);
    refused(&with(".bss\n.skip 1025"), &[".bss", "do not fit", "1024"]);
    refused(&with("movq nmi_body@GOTPCREL(%rip), %rax"), &["GOT", "-fno-pic"]);
    refused(&with("movb $nmi_body, %al"), &["not supported"]);
    refused(&with("NMI_LAB_NOTE(\"scenario x arg=nmi_entry\")"), &["not `scenario`"]);
    refused(&with("NMI_LAB_NOTE(\"scheme x arg=nmi_entry\")"), &["slot's"]);
    refused(&with("NMI_LAB_NOTE(\"scheme naive\")"), &["scheme naive is declared twice"]);
    std::fs::write(&path, with(".bss\nmine: .skip 8\n.text\nmovl $1, mine\nmovq $mine, %rax\n.quad nmi_body")).unwrap();
    vmm(&["list", "schemes", "--entry", path.to_str().unwrap()]).exits(0);
}
