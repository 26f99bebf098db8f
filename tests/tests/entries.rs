//! NMI entries and guests whose bugs were reported somewhere, and their right twins:
//! tests/guests/entries/. Each must be judged rightly, by the same rule in every gear.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, first_boundary, gcc, vmm};
use serde_json::Value;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/entries")
}

/// An object or a guest, and the folder that it is in as long as it is needed.
struct Built {
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Built {
    fn new(name: &str, to: &str, flags: &[&str], defines: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(to);
        let include = format!("-I{}", gcc::examples().join("include").display());
        let source = sources().join(format!("{name}.S"));
        let mut gcc = Command::new("gcc");
        gcc.arg(include).args(flags).args(defines.iter().map(|d| format!("-D{d}")));
        gcc::must(gcc.arg("-o").arg(&file).arg(source));
        Self { file, _dir: dir }
    }

    /// An entry for the built-in kernel.
    fn entry(name: &str, defines: &[&str]) -> Self {
        Self::new(name, "entry.o", &["-fno-pic", "-mcmodel=kernel", "-c"], defines)
    }

    /// A whole guest.
    fn guest(name: &str, defines: &[&str]) -> Self {
        let script = format!("-Wl,-T,{}", sources().join("guest.ld").display());
        let flags = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", &script];
        Self::new(name, "guest.elf", &flags, defines)
    }

    fn vmm(&self, command: &str, (scheme, scenario): (&str, &str), more: &[&str]) -> Done {
        let file = self.file.to_str().unwrap();
        let what = if file.ends_with(".o") { "--entry" } else { "--guest" };
        let args = [command, what, file, "--scheme", scheme, "--scenario", scenario];
        vmm(&[&args, more].concat())
    }

    fn explore(&self, scheme: &str, scenario: &str) -> Value {
        self.vmm("explore", (scheme, scenario), &["--json"]).json()
    }
}

/// It breaks this rule, says the search; all gears agree, and the line it prints replays.
#[track_caller]
fn breaks(built: &Built, (scheme, scenario): (&str, &str), rule: &str) {
    let found = built.explore(scheme, scenario);
    let first = &found["violations"][0];
    assert_eq!(first["invariant"], rule, "{scheme}/{scenario}: {found}");
    assert_eq!((&found["disagreements"], &found["deviations"]), (&0.into(), &Value::Array(vec![])), "{found}");
    let schedule = first["schedule"].as_str().unwrap();
    let run = built.vmm("run", (scheme, scenario), &["--schedule", schedule, "--gear", "all", "--json"]);
    let run = run.exits(1).json();
    assert_eq!(run["rows"][0]["invariant"], rule, "{scheme}/{scenario}: {run}");
}

#[track_caller]
fn passes(built: &Built, scheme: &str, scenario: &str) {
    let found = built.explore(scheme, scenario);
    assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{scheme}/{scenario}: {found}");
}

#[test]
fn broken_entries_break_the_first_rule_in_every_gear() {
    if !gcc::is_there() {
        return;
    }
    let kinds = [
        ("deep-stack", &[][..], "quiet", "I9"),
        ("dr6", &[], "quiet", "I6"),
        ("late-flags", &[], "flags", "I14"),
        ("no-cld", &[], "flags", "I21"),
        ("no-adjust", &[], "quiet", "I14"),
        ("ret-blocked", &[], "quiet", "I8"),
        ("spin", &[], "short-ud-fault", "I17"),
    ];
    for (name, defines, scenario, rule) in kinds {
        breaks(&Built::entry(name, defines), ("custom", scenario), rule);
    }
}

#[test]
fn a_string_instruction_in_the_entry_needs_df_clear() {
    if !gcc::is_there() {
        return;
    }
    let run = |defines: &[&str]| {
        let args = ["--schedule", "nmi@flags.under", "--gear", "all"];
        Built::entry("no-cld", defines).vmm("run", ("custom", "flags"), &args)
    };
    run(&["STRING"]).exits(1).prints(&["violation(I14"]);
    run(&["STRING", "CLD"]).exits(0);
}

/// With a counter no state comes again, so a limit in instructions ends it.
#[test]
fn a_handler_that_never_ends_is_a_livelock_in_every_gear() {
    if !gcc::is_there() {
        return;
    }
    for (defines, words) in [(&[][..], "the same state again"), (&["COUNT"], "no end and no repeated state")] {
        let at = format!("nmi@{}", first_boundary("naive", "short-ud-fault"));
        let args = ["--schedule", &at, "--gear", "all"];
        Built::entry("spin", defines)
            .vmm("run", ("custom", "short-ud-fault"), &args)
            .exits(1)
            .prints(&["livelock", words]);
    }
}

/// What is awaited at a later round of a loop that repeats itself comes there, whatever the
/// number of the round.
#[test]
fn an_event_in_a_late_round_of_an_endless_loop_arrives() {
    if !gcc::is_there() {
        return;
    }
    let at = format!("nmi@{} nmi@nmi_entry#4000000000", first_boundary("naive", "short-ud-fault"));
    let args = ["--schedule", &at, "--gear", "all"];
    Built::entry("spin", &[])
        .vmm("run", ("custom", "short-ud-fault"), &args)
        .exits(1)
        .prints(&["livelock", "the same state again"]);
}

#[test]
fn a_write_outside_the_writable_segments_is_refused_by_every_command() {
    if !gcc::is_there() {
        return;
    }
    let built = Built::entry("leaks", &[]);
    built.vmm("explore", ("custom", "quiet"), &[]).exits(65).says(&["outside its writable segments"]);
    let campaign = built.file.with_file_name("points.toml");
    std::fs::write(&campaign, "name = \"l\"\nschemes = [\"custom\"]\nscenarios = [\"quiet\"]\ngenerate = \"points\"\n")
        .unwrap();
    let (entry, file) = (built.file.to_str().unwrap(), campaign.to_str().unwrap());
    vmm(&["campaign", "--entry", entry, file]).exits(65).says(&["outside its writable segments"]);
}

/// A campaign proves nothing about time, so it says where that is read: by an instruction that is
/// seen in the code, and by one whose register decides.
#[test]
fn a_campaign_says_where_time_is_read() {
    if !gcc::is_there() {
        return;
    }
    for defines in [&[][..], &["RDMSR"]] {
        let built = Built::entry("clock", defines);
        let row = |jobs: &str| {
            let campaign = built.file.with_file_name("points.toml");
            let text = "name = \"c\"\nschemes = [\"custom\"]\nscenarios = [\"quiet\"]\ngenerate = \"points\"\n";
            std::fs::write(&campaign, text).unwrap();
            let (entry, file) = (built.file.to_str().unwrap(), campaign.to_str().unwrap());
            let done = vmm(&["campaign", "--entry", entry, file, "--jobs", jobs, "--json"]).exits(0).json();
            done["rows"][0].clone()
        };
        let one = row("1");
        assert!(one["reads_time"].as_str().is_some_and(|at| at.starts_with("nmi_entry+")), "{one}");
        assert_eq!(one, row("3"));
    }
}

/// The kernel's IA32_SPEC_CTRL is the interrupted code's again after an NMI, or that is found. A
/// host that has no such register raises #GP, and one whose register keeps nothing cannot show it.
#[test]
fn spec_ctrl_is_a_part_of_the_interrupted_context() {
    if !gcc::is_there() {
        return;
    }
    let at = format!("nmi@{}", first_boundary("naive", "quiet"));
    for (defines, code, words) in [(&[][..], 0, "pass"), (&["LOST"], 1, "violation(I6")] {
        let built = Built::entry("spec-ctrl", defines);
        let args = ["--schedule", &at, "--gear", "all"];
        let done = built.vmm("run", ("custom", "quiet"), &args);
        if done.stdout.contains("host-limit") {
            done.prints(&["WRMSR to 0x48 at nmi_entry+"]);
        } else if done.stdout.contains("#GP") {
            done.exits(1).prints(&["violation(I18"]);
        } else {
            done.exits(code).prints(&[words]);
        }
    }
}

/// A change of context that is declared is one that is meant, and any other is none.
#[test]
fn a_sequence_that_is_begun_again_passes_where_that_is_declared() {
    if !gcc::is_there() {
        return;
    }
    breaks(&Built::guest("restart", &[]), ("again", "add"), "I8");
    for declared in ["RESUMES", "REPEAT"] {
        passes(&Built::guest("restart", &[declared]), "again", "add");
        let wrong = Built::guest("restart", &[declared, "WRONG"]).explore("again", "add");
        assert_eq!(wrong["verdict"], "violation", "{declared}: {wrong}");
    }
    // Begun again after its last instruction, the sequence adds twice.
    breaks(&Built::guest("restart", &["RESUMES", "LATE"]), ("again", "add"), "I8");
    breaks(&Built::guest("restart", &["REPEAT", "LATE"]), ("again", "add"), "I7");
}

#[test]
fn a_body_that_trusts_the_current_process_too_early_is_found() {
    if !gcc::is_there() {
        return;
    }
    breaks(&Built::guest("current", &[]), ("plain", "switch"), "I18");
    passes(&Built::guest("current", &["GUARD"]), "plain", "switch");
}

#[test]
fn fred_s_bit_decides() {
    if !gcc::is_there() {
        return;
    }
    let built = Built::guest("fred", &[]);
    passes(&built, "right", "add");
    breaks(&built, ("early", "add"), "I5");
    breaks(&built, ("lost", "add"), "I12");
}

/// A kernel with a page table apart for user code: an NMI loads the kernel's and gives back the
/// one that it found, wherever it came.
#[test]
fn two_page_tables_and_two_gs_bases() {
    if !gcc::is_there() {
        return;
    }
    for defines in [&["SPLIT", "TOUCH"][..], &["SPLIT"], &["TOUCH"]] {
        let (built, split) = (Built::guest("kpti", defines), defines[0] == "SPLIT");
        for scenario in ["user-low", "user-high"] {
            passes(&built, "right", scenario);
            breaks(&built, ("gs-by-cs", scenario), "I10");
            for (scheme, rule) in [("never-loads", "I11"), ("loads-by-cs", "I11"), ("gives-by-cs", "I6")] {
                if split {
                    breaks(&built, (scheme, scenario), rule);
                } else {
                    passes(&built, scheme, scenario);
                }
            }
        }
        passes(&built, "gs-by-sign", "user-low");
        breaks(&built, ("gs-by-sign", "user-high"), "I10");
        passes(&built, "right", "peek");
        breaks(&built, ("gs-by-cs", "peek"), "I10");
        breaks(&built, ("right", "tss"), "I18");
    }
}

/// What the CPU delivers by may be moved by an entry, if it is moved back: the TSS is memory (I7),
/// and where the IDT lies is a register (I6).
#[test]
fn tables_that_an_entry_moves() {
    if !gcc::is_there() {
        return;
    }
    let built = Built::guest("tables", &[]);
    for (scheme, rule) in [("leaves-ist", "I7"), ("clears-ist", "I7"), ("leaves-idt", "I6")] {
        breaks(&built, (scheme, "add"), rule);
    }
    passes(&built, "moves-ist", "add");
    passes(&built, "moves-idt", "add");
}

/// Each process has a page table for the kernel and one for its user code. An NMI loads the
/// kernel's of the process that it interrupted, and gives back what it found.
#[test]
fn page_tables_of_two_processes() {
    if !gcc::is_there() {
        return;
    }
    let built = Built::guest("processes", &[]);
    passes(&built, "right", "switch");
    for (scheme, rule) in [("stale", "I11"), ("current", "I11"), ("users", "I6")] {
        breaks(&built, (scheme, "switch"), rule);
    }
}

/// What nmi_lab.h and the guide say is enough for an entry that comes from user code, with one page
/// table for a process and with two.
#[test]
fn an_entry_leaves_user_code_by_the_threads_stack() {
    if !gcc::is_there() {
        return;
    }
    let built = Built::entry("from-user", &[]);
    let places = [
        ("user", &["user_code.start#1", "syscall.entry#1", "syscall.kernel_stack#1", "syscall.sysretq#1"][..]),
        ("user-kpti", &["user_kpti.start#1", "kpti_syscall.entry#1", "kpti_syscall.kernel_stack#1"]),
        ("user-kpti", &["kpti_syscall.sysretq#2", "kpti_user.enter_iretq#2"]),
    ];
    for (scenario, places) in places {
        for place in places {
            let schedule = format!("nmi@{place}");
            built.vmm("run", ("custom", scenario), &["--schedule", &schedule, "--gear", "all"]).exits(0);
        }
    }
}

/// An object declares a stack of its own, and that FRED enters it.
#[test]
fn an_object_declares_its_stack_and_fred() {
    if !gcc::is_there() {
        return;
    }
    passes(&Built::entry("own-stack", &[]), "custom", "quiet");
    breaks(&Built::entry("own-stack", &["UNDECLARED"]), ("custom", "quiet"), "I9");
    let fred = Built::entry("fred-entry", &[]);
    passes(&fred, "custom", "quiet");
    passes(&fred, "custom", "short-vmalloc-fault");
    breaks(&Built::entry("fred-entry", &["LOST"]), ("custom", "quiet"), "I12");
}
