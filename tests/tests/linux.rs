//! A real Linux kernel: it survives what it can, and a broken one is found out, at the
//! right boundary. Needs the kernel of `scripts/linux/build-test-kernel`; without it these
//! tests are ignored, and say so (build.rs).

mod common;

use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::{Done, command, vmm};
use iced_x86::{Mnemonic, Register};
use serde_json::Value;
use vmm::image::Decoded;
use vmm::inject::{Event, Gear, Kind as EventKind};
use vmm::kernels::linux::{Linux, Options, symbols_of_image, vmlinux};
use vmm::kernels::{Expected, FaultBy, Kind, Lab, Part, Row, Running, Start, Sweep};
use vmm::kvm::{Host, interrupt_after};

const KERNEL: &str = env!("LINUX_TEST_KERNEL");

/// Boots the test kernel.
fn boot() -> Lab {
    let elf = vmlinux(std::fs::read(KERNEL).expect("the test kernel")).expect("an ELF file");
    let symbols = symbols_of_image(&elf).expect("the test kernel has symbols");
    interrupt_after(Duration::from_millis(20));
    let host = Host::open().expect("KVM");
    let options = Options { ram_mib: 64, ..Options::default() };
    let kernel = Box::new(Linux { elf, symbols, options });
    let limit = Duration::from_secs(600);
    let running = Running::boot(&host, kernel, limit, None, &mut |_, _| true).expect("the test kernel boots");
    let mut lab = Lab::new(running).expect("the user program runs");
    lab.go(&[], Start::Site("")).expect("the default site is reached");
    lab
}

/// Finds an instruction on an NMI's path; the address is that of `irqentry_nmi_exit`.
type Find = fn(&[Decoded], u64) -> Option<Decoded>;

/// Instructions without which a handler is broken: what the defect is, where it shows, and the
/// instruction.
const C_CODE: [(&str, &str, Find); 6] = [
    ("the preempt count stays", "", |path, exit| {
        path.iter().find(|d| d.insn.is_call_near() && d.insn.near_branch_target() == exit).copied()
    }),
    ("the breakpoints stay off", "", |path, _| {
        path.iter().rfind(|d| d.insn.op_count() == 2 && d.insn.op0_register() == Register::DR7).copied()
    }),
    ("GS stays the user's", "user", |path, _| path.iter().find(|d| d.insn.mnemonic() == Mnemonic::Swapgs).copied()),
    // With FSGSBASE paranoid entry and exit move bases, without they swap them.
    ("paranoid entry keeps the user's GS", "entry_SYSCALL_64", |path, _| path.iter().find(|d| changes_gs(d)).copied()),
    ("paranoid exit keeps the kernel's GS", "entry_SYSCALL_64", |path, _| {
        path.iter().rfind(|d| changes_gs(d)).copied()
    }),
    ("a latched NMI is not served", "user", |path, _| {
        let xadd = path.iter().rposition(|d| d.insn.mnemonic() == Mnemonic::Xadd)?;
        path[xadd..].iter().find(|d| d.insn.mnemonic() == Mnemonic::Jne).copied()
    }),
];

fn changes_gs(d: &Decoded) -> bool {
    matches!(d.insn.mnemonic(), Mnemonic::Swapgs | Mnemonic::Wrgsbase)
}

/// Where an NMI comes whose paranoid entry is to be told from the others by what it does with GS.
const BEFORE_SWAPGS: &str = "entry_SYSCALL_64";

/// On a kernel that uses FSGSBASE, the jump by which paranoid entry judges GS by its base's sign all
/// the same, as it does without: it stands where an alternative has put two bytes of nothing.
fn by_its_sign(lab: &mut Lab) -> Option<String> {
    lab.go(&[], Start::Site(BEFORE_SWAPGS)).expect("the site is reached");
    let events = vec![Event { kind: EventKind::Nmi, at: lab.start() }];
    let path = lab.walk(&events).expect("an NMI passes");
    let path: Vec<_> = path.visits.iter().filter_map(|v| lab.pc().instruction(v.at.addr)).collect();
    let reads = path.iter().position(|d| d.insn.mnemonic() == Mnemonic::Rdgsbase)?;
    let jump = path[reads..].iter().find(|d| d.insn.mnemonic() == Mnemonic::Jmp)?;
    let before = &path[reads - 1].insn;
    assert_eq!(before.len(), 2, "an alternative of two bytes");
    Some(format!("{}=eb{:02x}", lab.show(before.ip()), jump.insn.next_ip() - before.next_ip()))
}

/// Runs the program on the test kernel.
fn linux(args: &[&str]) -> Done {
    vmm(&[&["linux", "--kernel", KERNEL, "--ram", "64"], args].concat())
}

/// The rows of a sweep of NMI #2.
fn second(lab: &mut Lab, kind: Kind) -> Vec<Row> {
    let mut rows = Vec::new();
    let stop = AtomicBool::new(false);
    let mut sweep = Sweep::new(lab, 16, &stop);
    sweep.all(Part::Second, kind, &mut |row, _, _| rows.push(row.clone())).expect("the sweep runs");
    assert_eq!(sweep.stats().disagreed, 0, "the ways to raise an NMI agree");
    rows
}

/// Where a sweep of NMI #2, NMIs unblocked, finds defects.
fn defects(lab: &mut Lab) -> Vec<u64> {
    second(lab, Kind::Unmasked).iter().filter(|r| r.is_defect()).map(|r| r.at.addr).collect()
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn the_kernel_survives_what_it_can_and_a_broken_one_is_found_out() {
    let mut lab = boot();
    lab.set_limit(Duration::from_millis(100));
    for site in ["", "user", "idle"] {
        lab.go(&[], Start::Site(site)).expect("the site is reached");
        let masked = second(&mut lab, Kind::Masked);
        assert!(masked.len() > 100);
        for row in &masked {
            assert!(row.outcome.verdict.is_pass(), "{}: {}", lab.show_schedule(&row.events), row.outcome.verdict);
            assert_eq!(row.outcome.handled, 2);
        }
        for row in second(&mut lab, Kind::Unmasked) {
            let schedule = lab.show_schedule(&row.events);
            assert_eq!(row.outcome.verdict.is_pass(), row.expected.survives(), "{schedule}: {}", row.outcome.verdict);
        }
    }

    // Without its mark of the way out: at the iretq behind the clearing store.
    lab.go(&[], Start::Site("")).expect("the site is reached");
    let path = &lab.path().boundaries;
    let std = path.iter().rfind(|b| b.text == "std").expect("the way out sets DF").place.clone();
    let iretq = path.iter().rfind(|b| b.text == "iretq").expect("the way out ends in iretq").addr;
    let entry = lab.path().entry;
    lab.go(&[format!("{std}=90")], Start::Site("")).expect("the site is reached");
    assert_eq!(defects(&mut lab), [iretq]);

    // Without the store to the "executing" word: all over the handler, its C code included.
    // Livelocks by the hundred: each costs its limit.
    lab.go(&["repeat_nmi=909090909090909090".to_owned()], Start::Site("")).expect("the site is reached");
    lab.set_limit(Duration::from_millis(20));
    let found = defects(&mut lab);
    assert!(found.iter().filter(|at| !(entry..entry + 0x1000).contains(at)).count() > 100, "{found:x?}");

    // In its C code: what it takes back at its end, and the loop that serves a latched NMI.
    lab.set_limit(Duration::from_millis(100));
    for (what, site, find) in C_CODE {
        lab.go(&[], Start::Site(site)).expect("the site is reached");
        let events = vec![Event { kind: EventKind::Nmi, at: lab.start() }];
        let path = lab.walk(&events).expect("an NMI passes");
        let path: Vec<_> = path.visits.iter().filter_map(|v| lab.pc().instruction(v.at.addr)).collect();
        let exit = lab.pc().symbols.get("irqentry_nmi_exit").expect("the function is there");
        let at = find(&path, exit).unwrap_or_else(|| panic!("{what}: the instruction is there"));
        let mutation = format!("{}={}", lab.show(at.insn.ip()), "90".repeat(at.insn.len()));
        lab.go(&[mutation], Start::Site(site)).expect("the site is reached");
        let (stop, mut defects) = (AtomicBool::new(false), 0);
        let swept = Sweep::new(&mut lab, 16, &stop)
            .all(Part::Second, Kind::Unmasked, &mut |row, _, _| defects += u32::from(row.is_defect()));
        match swept {
            Ok(()) => assert!(defects > 0, "{what}"),
            Err(e) => assert!(e.to_string().contains("does not pass"), "{what}: {e}"),
        }
    }

    // User code's GS base is in the high half, where it has WRGSBASE.
    if let Some(mutation) = by_its_sign(&mut lab) {
        lab.go(&[mutation], Start::Site(BEFORE_SWAPGS)).expect("the site is reached");
        let stop = AtomicBool::new(false);
        let Err(told) = Sweep::new(&mut lab, 16, &stop).single() else { panic!("it passes") };
        assert!(told.to_string().contains("GS base was"), "{told}");
    }

    // And none of it stays.
    lab.set_limit(Duration::from_millis(100));
    lab.go(&[], Start::Site("")).expect("the site is reached");
    assert_eq!(defects(&mut lab), Vec::<u64>::new());

    // A schedule that begins amid the NMI's code has an NMI before it. The one that comes
    // there is latched, and nests at end_repeat_nmi.
    lab.go(&[], Start::Schedule("nmi@asm_exc_nmi+0x4")).expect("the default site");
    let events = lab.schedule("nmi@asm_exc_nmi+0x4 unmask@end_repeat_nmi").expect("a schedule").0;
    assert_eq!((events.len(), events[0].at), (3, lab.start()));
    let outcome = lab.case(&events, Gear::Arm).expect("it runs");
    assert!(outcome.verdict.is_pass(), "{}", outcome.verdict);
    assert_eq!((outcome.arrived, outcome.delivered, outcome.handled, outcome.unreached), (2, 2, 2, 0));

    // What cannot be done is told, each time with what would do.
    let mutation = |text: &str, lab: &mut Lab| lab.go(&[text.to_owned()], Start::Site("")).unwrap_err().to_string();
    for (text, says) in
        [("nmi_restore=9", "pairs of"), ("nmi_restor=90", "nmi_restore"), ("0x10=90", "does not map it")]
    {
        let told = mutation(text, &mut lab);
        assert!(told.contains(says), "{text}: {told}");
    }
    lab.go(&[], Start::Site("")).expect("the site is reached");
    for (text, says) in [
        ("nmi@nmi_restor", "nmi_restore"),
        ("nmi@asm_exc_nmi+0x1", "asm_exc_nmi+0x3"),
        ("nmi@jiffies", "text"),
        ("nmj@asm_exc_nmi", "expected nmi, unmask"),
        ("mce@asm_exc_nmi", "a real kernel gets nmi, unmask and fault"),
    ] {
        let told = lab.schedule(text).unwrap_err().to_string();
        assert!(told.contains(says), "{text}: {told}");
    }
    assert!(lab.go(&[], Start::Site("nowhere")).is_err());
}

/// A sweep's rows, where #1's handler faults at `fault`, if anywhere.
fn swept(lab: &mut Lab, fault: Option<&str>, part: Part, kind: Kind) -> Vec<Row> {
    let (mut rows, stop) = (Vec::new(), AtomicBool::new(false));
    let on_row = &mut |row: &Row, _: &Lab, _: usize| rows.push(row.clone());
    let mut sweep = Sweep::new(lab, 16, &stop);
    if let Some(place) = fault {
        sweep.fault_in_handler(place).expect("the handler may fault");
    }
    sweep.all(part, kind, on_row).expect("the sweep runs");
    assert_eq!(sweep.stats().disagreed, 0, "the ways to raise an NMI agree");
    rows
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_handler_that_faults_is_survived_and_must_put_cr2_back() {
    let mut lab = boot();
    lab.set_limit(Duration::from_millis(100));
    for site in ["", "user"] {
        lab.go(&[], Start::Site(site)).expect("the site is reached");
        for kind in [Kind::Masked, Kind::Unmasked] {
            let rows = swept(&mut lab, None, Part::Fault, kind);
            let may = rows.iter().filter(|r| r.expected.survives()).count();
            assert!(may > 100 && may + 50 < rows.len(), "{may} of {}", rows.len());
            for row in rows.iter().filter(|r| r.expected.survives()) {
                let schedule = lab.show_schedule(&row.events);
                assert!(row.outcome.verdict.is_pass(), "{schedule}: {}", row.outcome.verdict);
                let nmis = if kind == Kind::Masked { 1 } else { 2 };
                assert_eq!((row.outcome.handled, row.outcome.unreached), (nmis, 0), "{schedule}");
            }
            // A fault before CR2 is saved spoils it: that is what the rule is about.
            assert!(!rows[0].expected.survives() && !rows[0].outcome.verdict.is_pass());
        }
        // After the fault's iretq nothing but the entry code protects the handler.
        for part in [Part::Second, Part::Third] {
            let rows = swept(&mut lab, Some("auto"), part, Kind::Masked);
            let nested = rows.iter().filter(|r| r.expected == Expected::Nested).count();
            assert!(nested > 100, "{nested} of {}", rows.len());
            assert!(rows.iter().all(|r| r.outcome.verdict.is_pass() && r.outcome.unreached == 0));
        }
    }

    // Faults of other kinds, each through code of the kernel's own.
    for by in [FaultBy::Fixup, FaultBy::Breakpoint, FaultBy::Warn] {
        lab.set_fault_by(by);
        for site in ["", "user"] {
            lab.go(&[], Start::Site(site)).expect("the site is reached");
            for kind in [Kind::Masked, Kind::Unmasked] {
                let rows = swept(&mut lab, None, Part::Fault, kind);
                let may: Vec<&Row> = rows.iter().filter(|r| r.expected.survives()).collect();
                assert!(may.len() > 100, "{} of {}", may.len(), rows.len());
                for row in may {
                    let schedule = lab.show_schedule(&row.events);
                    assert!(row.outcome.verdict.is_pass(), "{by:?} {schedule}: {}", row.outcome.verdict);
                    assert_eq!(row.outcome.unreached, 0, "{by:?} {schedule}");
                }
            }
        }
        let rows = swept(&mut lab, Some("auto"), Part::Second, Kind::Masked);
        let nested = rows.iter().filter(|r| r.expected == Expected::Nested).count();
        assert!(nested > 100, "{by:?}: {nested} of {}", rows.len());
        for row in &rows {
            let schedule = lab.show_schedule(&row.events);
            assert!(row.outcome.verdict.is_pass(), "{by:?} {schedule}: {}", row.outcome.verdict);
        }
        // What the entry code does not protect is found by each of them.
        lab.go(&["nmi_restore+0x1b=90".to_owned()], Start::Site("")).expect("the site is reached");
        let rows = swept(&mut lab, Some("auto"), Part::Second, Kind::Unmasked);
        assert_eq!(rows.iter().filter(|r| r.is_defect()).count(), 1, "{by:?}");
    }
    lab.set_fault_by(FaultBy::Spurious);

    // A handler that does not put CR2 back, and entry code that does not know of nesting.
    lab.go(&[], Start::Site("")).expect("the site is reached");
    let one = vec![Event { kind: EventKind::Nmi, at: lab.start() }];
    let path = lab.walk(&one).expect("an NMI passes");
    let path: Vec<_> = path.visits.iter().filter_map(|v| lab.pc().instruction(v.at.addr)).collect();
    let compares = path.iter().rposition(|d| d.insn.op1_register() == Register::CR2).expect("CR2 is looked at");
    let jne = path[compares..].iter().find(|d| d.insn.mnemonic() == Mnemonic::Jne).expect("a branch");
    let mutation = format!("{}={}", lab.show(jne.insn.ip()), "90".repeat(jne.insn.len()));
    lab.go(&[mutation], Start::Site("")).expect("the site is reached");
    let rows = swept(&mut lab, None, Part::Fault, Kind::Masked);
    let defects: Vec<&Row> = rows.iter().filter(|r| r.is_defect()).collect();
    assert!(defects.len() > 100);
    assert!(defects.iter().all(|r| r.outcome.verdict.detail().contains("CR2 was")));
    assert_eq!(second(&mut lab, Kind::Masked).iter().filter(|r| r.is_defect()).count(), 0);

    lab.go(&["repeat_nmi=909090909090909090".to_owned()], Start::Site("")).expect("the site is reached");
    lab.set_limit(Duration::from_millis(20));
    let rows = swept(&mut lab, Some("auto"), Part::Second, Kind::Masked);
    assert!(rows.iter().filter(|r| r.is_defect()).count() > 100);

    // Places where no fault can be asked for.
    let sweep = ["--sweep", "--fault-in-handler"];
    linux(&[&sweep[..], &["nowhere"]].concat()).exits(65).says(&["nowhere"]);
    linux(&["--schedule", "fault@default_do_nmi"]).exits(65).says(&["begins with a fault"]);
    linux(&["--schedule", "nmi@user fault@user"]).exits(65).says(&["not where the first NMI interrupts"]);
    let never = [&sweep[..], &["nmi_panic"]].concat();
    let done = linux(&never).exits(1);
    assert!(done.stdout.contains("does not come to the fault's place"), "{}", done.stdout);
    let json = linux(&[&sweep[..], &["auto", "--part", "second", "--json"]].concat()).exits(0).json();
    common::fits_schema("linux", &json);
    assert!(json["sweeps"][0]["fault"].as_str().unwrap().starts_with("exc_nmi"));
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_failing_case_prints_the_line_that_replays_it() {
    let args = ["--sweep", "--part", "second", "--site", "user", "--site", "", "--mutate", "nmi_restore+0x1b=90"];
    let found = linux(&[&args[..], &["--json"]].concat()).exits(1).json();
    common::fits_schema("linux", &found);
    assert_eq!(found["complete"], true);
    assert_eq!(found["host"]["fingerprint"].as_str().map(str::len), Some(8));
    assert!(found["kernel"]["version"].as_str().unwrap().starts_with("Linux version "));
    let sweeps = found["sweeps"].as_array().unwrap();
    let sites: Vec<&Value> = sweeps.iter().map(|s| &s["site"]).collect();
    assert_eq!((sweeps.len(), sites[0], sites[1]), (4, &"user".into(), &"user".into()));
    let rows = |s: &Value| s["rows"].as_array().unwrap().clone();
    assert!(sweeps.iter().all(|s| s["cases"] == rows(s).len()));
    let all: Vec<Value> = sweeps.iter().flat_map(rows).collect();
    let bad: Vec<&Value> = all.iter().filter(|r| r["defect"] == true).collect();
    assert_eq!((bad.len() as u64, bad.len()), (found["summary"]["defects"].as_u64().unwrap(), 1));
    assert!(all.iter().all(|r| r["verdict"] != "pass" || r["replay"].is_null()));

    // The line is for a shell; `vmm` stands for the program.
    let line = bad[0]["replay"].as_str().unwrap();
    let script = format!("vmm() {{ \"$VMM\" \"$@\"; }}; {line} --json");
    let run = std::process::Command::new("sh").args(["-c", &script]).env("VMM", common::VMM).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", String::from_utf8_lossy(&run.stderr));
    let again: Value = serde_json::from_slice(&run.stdout).unwrap();
    common::fits_schema("linux-case", &again);
    for key in ["schedule", "verdict", "invariant", "replay"] {
        assert_eq!(again["case"][key], bad[0][key], "{key}");
    }
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn only_what_is_new_since_the_baseline_fails() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = ["--sweep", "--part", "second", "--mutate", "nmi_restore+0x1b=90"];
    let old = linux(&[&sweep[..], &["--json"]].concat()).exits(1);
    let file = dir.path().join("old.json");
    std::fs::write(&file, &old.stdout).unwrap();
    let file = file.to_str().unwrap();
    let held = |args: &[&str]| linux(&[args, &["--baseline", file]].concat());
    let done =
        held(&[&sweep[..], &["--json", "--junit", dir.path().join("j.xml").to_str().unwrap()]].concat()).exits(0);
    let json = done.json();
    common::fits_schema("linux", &json);
    assert_eq!((&json["baseline"]["known"], &json["baseline"]["new"]), (&1.into(), &0.into()));
    let junit = std::fs::read_to_string(dir.path().join("j.xml")).unwrap();
    assert!(junit.contains("a known defect") && !junit.contains("<failure"), "{junit}");
    // The same defect at another site is new.
    let done = held(&["--sweep", "--part", "second", "--site", "idle", "--mutate", "nmi_restore+0x1b=90"]).exits(1);
    assert!(done.stdout.contains("0 defects were known, 1 are new"), "{}", done.stdout);
    assert!(done.stdout.contains("it has no sweep of idle"), "{}", done.stdout);
    std::fs::write(dir.path().join("text"), "no JSON").unwrap();
    let text = dir.path().join("text");
    linux(&[&sweep[..], &["--baseline", text.to_str().unwrap()]].concat()).exits(65).says(&["no results of vmm linux"]);
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn handlers_and_the_ways_in_and_out_of_the_kernel_are_sites() {
    let sites = ["asm_exc_page_fault", "asm_exc_int3", "entry_SYSCALL_64", "asm_common_interrupt", "common_interrupt"];
    let named: Vec<&str> = sites.iter().flat_map(|site| ["--site", site]).collect();
    let json = linux(&[&["--sweep", "--part", "second", "--json"], &named[..]].concat()).exits(0).json();
    let swept: Vec<&str> = json["sweeps"].as_array().unwrap().iter().map(|s| s["site"].as_str().unwrap()).collect();
    assert_eq!(swept, sites.iter().flat_map(|site| [*site, *site]).collect::<Vec<_>>());
    // Where the user program does not come to, it is said.
    let done = linux(&["--sweep", "--site", "asm_exc_divide_error"]).exits(1);
    assert!(done.stdout.contains("the user program runs on and does not get there"), "{}", done.stdout);
}

/// The jumps to first_nmi by which the check for a nested NMI asks about RSP and DF, each the last of
/// its kind in asm_exc_nmi, and the site where a kernel without it takes one NMI alone for a nested
/// one.
const OF_THE_CHECK: [(&str, &str); 3] = [("ja ", "user-db"), ("jb ", "user-bp"), ("je ", "user-rsp")];

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn each_question_of_the_check_for_a_nested_nmi_has_a_site_that_needs_it() {
    let list = vmm(&["list", "boundaries", "--kernel", KERNEL, "--ram", "64", "--json"]).exits(0).json();
    let rows = list["boundaries"].as_array().unwrap();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    for (jump, site) in OF_THE_CHECK {
        let mut of_the_entry = rows.iter().filter(|row| text(row, "place").starts_with("asm_exc_nmi+"));
        let asks = of_the_entry.rfind(|row| text(row, "instruction").starts_with(jump)).expect(jump);
        let nops = format!("{}=9090", text(asks, "place"));
        let schedule = format!("nmi@{site}");
        linux(&["--schedule", &schedule]).exits(0);
        let json = linux(&["--mutate", &nops, "--schedule", &schedule, "--json"]).exits(1).json();
        assert_eq!(json["case"]["invariant"], "I3", "{site} {nops}: {json}");
    }
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_case_is_the_same_each_time() {
    for schedule in
        ["nmi@user", "nmi@idle unmask@exc_nmi nmi@exc_nmi", "nmi@user fault@exc_nmi+0x22 nmi@exc_nmi+0x22#2"]
    {
        let json = linux(&["--schedule", schedule, "--repeat", "30", "--json"]).exits(0).json();
        common::fits_schema("linux-case", &json);
        assert_eq!((&json["repeats"]["of"], &json["repeats"]["differing"]), (&30.into(), &0.into()), "{schedule}");
    }
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn boundaries_are_those_of_live_memory_and_an_interrupted_sweep_reports() {
    let list = vmm(&["list", "boundaries", "--kernel", KERNEL, "--ram", "64", "--json"]).exits(0).json();
    common::fits_schema("linux-boundaries", &list);
    let rows = list["boundaries"].as_array().unwrap();
    let of = |place: &str| rows.iter().find(|r| r["place"] == place).unwrap_or_else(|| panic!("{place}"));
    assert_eq!(of("asm_exc_nmi")["masked"], "masked");
    assert_eq!(of("asm_exc_nmi")["frame"], "needed");
    assert_eq!(of("end_repeat_nmi")["frame"], "");
    assert!(of("nested_nmi")["visits"] == 0 && of("nmi_restore")["visits"] == 1);
    assert!(rows.iter().any(|r| r["instruction"] == "iretq"));

    let mut sweep = command();
    sweep.args(["linux", "--kernel", KERNEL, "--ram", "64", "--sweep", "--case-limit", "2000"]);
    // Livelocks of two seconds each: the sweep lasts long enough.
    let child = sweep.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begin, mut child) = (Instant::now(), child);
    let mut seen = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    while !seen.contains("unblocked") && !seen.contains("as the CPU left them") {
        assert!(begin.elapsed() < Duration::from_secs(120), "{seen}");
        assert!(std::io::BufRead::read_line(&mut reader, &mut seen).unwrap() > 0, "{seen}");
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    std::io::Read::read_to_string(&mut reader, &mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(75), "{seen}");
    assert!(seen.contains(" of "), "{seen}");
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn what_cases_cost_fits_its_schema() {
    let costs = vmm(&["bench", "--linux", "--kernel", KERNEL, "--ram", "64", "--json"]).exits(0).json();
    common::fits_schema("linux-bench", &costs);
    assert!(costs["boundaries"].as_u64() > Some(100), "{costs:#}");
}

#[test]
fn what_is_no_kernel_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let refused = |path: &str, words: &[&str]| {
        let done = vmm(&["linux", "--sweep", "--kernel", path]).exits(65).says(words);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        vmm(&["list", "boundaries", "--kernel", path]).exits(65).says(words);
    };
    refused("/nowhere/vmlinux", &["/nowhere/vmlinux", "No such file"]);
    refused(&file("empty", b""), &["neither an ELF file nor an x86 bzImage"]);
    refused(&file("script", b"#!/bin/sh\n"), &["neither an ELF file nor an x86 bzImage"]);
    refused(&file("cut-elf", b"\x7fELF"), &["no usable ELF file"]);
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    refused(&file("cut-header", &image[..0x206]), &["cut short"]);
    refused(&file("old", &image), &["older than 2.08"]);
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&0x1000u32.to_le_bytes());
    refused(&file("cut-payload", &image), &["beyond the file's end"]);
    let tiny = tests::elf::Tiny::new(&[tests::elf::HLT]);
    refused(&file("no-symbols", &tiny.bytes()), &["CONFIG_KALLSYMS is off", "--symbols"]);
    refused(&file("class", &tests::elf::Tiny { class: 1, ..tiny.clone() }.bytes()), &["ELF"]);
    refused(&file("arm", &tests::elf::Tiny { machine: 183, ..tiny.clone() }.bytes()), &["Aarch64"]);
    refused(&file("shared", &tests::elf::Tiny { kind: 3, ..tiny }.bytes()), &["not a kernel"]);
    vmm(&["linux", "--sweep"]).exits(2).says(&["--kernel"]);
    vmm(&["linux", "--kernel", "x"]).exits(2);
    let campaign = file("campaign.toml", b"name = 'x'\nkernel = 'k'\nrum = 1\n");
    vmm(&["linux", "--campaign", &campaign]).exits(65).says(&["rum"]);
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn limits_that_a_kernel_cannot_come_up_in_are_told() {
    let with = |args: &[&str]| vmm(&[&["linux", "--kernel", KERNEL, "--sweep"], args].concat()).exits(65);
    with(&["--ram", "1"]).says(&["16 to 3072 MiB"]);
    with(&["--ram", "16"]).says(&["kernel and initrd take"]);
    with(&["--ram", "64", "--no-cache", "--boot-limit", "0"]).says(&["did not come up", "raise the limit"]);
    with(&["--ram", "64", "--cmdline", &"x ".repeat(2000)]).says(&["the command line has", "2048 are possible"]);
}

/// Machine code for `nmi_cpu_backtrace_handler`, which every NMI calls: what it does, and what
/// the verdict says.
fn spoilers() -> Vec<(&'static str, String, &'static str)> {
    let elf = vmlinux(std::fs::read(KERNEL).expect("the test kernel")).expect("an ELF file");
    let symbols = symbols_of_image(&elf).expect("the test kernel has symbols");
    let handler = symbols.get("nmi_cpu_backtrace_handler").expect("the function is there");
    let global = symbols.get("system_state").expect("the global is there");
    let to: Vec<String> = (global.wrapping_sub(handler + 6) as u32).to_le_bytes().map(|b| format!("{b:02x}")).into();
    let returns = "31c0c3"; // xor %eax, %eax; ret
    vec![
        ("fninit", format!("dbe3{returns}"), "x87 state"),
        ("IA32_KERNEL_GS_BASE = 0", format!("31c031d2b9020100c00f30{returns}"), "GS base"),
        ("IA32_LSTAR = 0", format!("31c031d2b9820000c00f30{returns}"), "MSR 0xc0000082"),
        ("system_state++", format!("ff05{}{returns}", to.concat()), "I7"),
        ("ud2", "0f0b".into(), "the kernel says"),
    ]
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_kernel_boots_once_and_what_a_handler_spoils_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine");
    let file = file.to_str().unwrap();
    let user = ["--schedule", "nmi@user"];
    linux(&[&user[..], &["--save", file]].concat()).exits(0);
    let from = |args: &[&str]| vmm(&[&["linux", "--from", file], args].concat());
    for gear in ["arm", "jump", "step"] {
        let done = from(&[&user[..], &["--gear", gear]].concat()).exits(0);
        assert!(done.stdout.contains("verdict    pass"), "{}", done.stdout);
    }

    for (what, code, says) in spoilers() {
        let mutation = format!("nmi_cpu_backtrace_handler={code}");
        let done = from(&[&user[..], &["--mutate", &mutation]].concat());
        assert!(done.stdout.contains(says), "{what}: {}{}", done.stdout, done.stderr);
        done.exits(1);
    }
    let cld = ["--sweep", "--part", "second", "--site", "user", "--mutate", "asm_exc_nmi+0x3=90"];
    let done = from(&cld).exits(1);
    assert!(done.stdout.contains("DF set"), "{}", done.stdout);

    // A site that cannot be swept does not take the others with it.
    let both = from(&["--sweep", "--part", "second", "--site", "asm_exc_nmi+0x4", "--site", "idle", "--json"]);
    let both = both.exits(1).json();
    common::fits_schema("linux", &both);
    assert_eq!(both["sweeps"].as_array().map(Vec::len), Some(2));
    assert!(both["errors"][0]["why"].as_str().unwrap().contains("the NMI's own code"), "{}", both["errors"]);

    // Neither another kernel nor a damaged file is gone on with.
    vmm(&[&["linux", "--from", file, "--kernel", KERNEL, "--ram", "128"], &user[..]].concat())
        .exits(65)
        .says(&["of another kernel"]);
    let whole = std::fs::read(file).unwrap();
    for at in [9, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(file, damaged).unwrap();
        from(&user).exits(65).says(&["it is damaged"]);
    }
    std::fs::write(file, &whole[..whole.len() - 1]).unwrap();
    from(&user).exits(65).says(&["it is damaged"]);
}
