//! User code: interrupted at each instruction, in every gear, and nothing of one case is
//! left for the next, the register behind `swapgs` included.

mod common;

use common::{campaign, vmm};
use tests::elf::{END, HLT, READY, Tiny};

fn targets() -> [&'static str; 4] {
    ["--scheme", "mainline", "--scenario", "user"]
}

#[test]
fn an_nmi_comes_exactly_at_each_boundary_of_user_code_and_of_the_ways_in_and_out() {
    let list = vmm(&[&["list", "boundaries"], &targets()[..], &["--json"]].concat()).exits(0).json();
    let list = list["boundaries"].as_array().unwrap();
    let golden = || list.iter().filter(|b| b["path"] == "golden").map(|b| b["place"].as_str().unwrap());
    for place in ["user.enter_iretq", "user_code.start", "user_code.syscall", "syscall.entry", "syscall.sysretq"] {
        assert!(golden().any(|p| p == place), "{place} is not on the way");
    }
    for place in golden().filter(|p| p.starts_with("user") || p.starts_with("syscall.user_stack")) {
        let schedule = format!("nmi@{place}#1");
        let run = [&["run"], &targets()[..], &["--schedule", &schedule, "--gear", "all", "--json"]].concat();
        let row = vmm(&run).exits(0).json()["rows"][0].clone();
        assert_eq!((&row["verdict"], &row["rechecked"]), (&"pass".into(), &2.into()), "{place}: {row:#}");
        assert_eq!(row["disagreements"], serde_json::json!([]), "{place}");
    }
}

#[test]
fn the_trace_shows_user_code_at_cpl3_and_the_nmi_leaving_it() {
    let run = [&["run"], &targets()[..], &["--schedule", "nmi@user_code.after#1", "--trace"]].concat();
    let trace = vmm(&run).exits(0).stdout;
    let line = |word: &str| trace.lines().find(|l| l.contains(word)).unwrap_or_else(|| panic!("{word}\n{trace}"));
    assert!(line("user.enter_iretq").contains("cs=0x23 ss=0x1b"));
    assert!(line("user_code.syscall").contains("cs=0x8 ss=0x10"));
    assert!(line("syscall.sysretq").contains("cs=0x23"));
    assert!(line("user_iret").contains("cs=0x23"));
}

/// Each case ends in the body, with GS swapped. If the next began with what that left in
/// KERNEL_GS_BASE, its body would find the kernel's base.
#[test]
fn no_case_begins_with_what_another_left_behind_swapgs() {
    for scenario in ["quiet", "user"] {
        let text = format!(
            "name = \"leak\"\nschemes = [\"broken-i10-swapgs\"]\nscenarios = [\"{scenario}\"]\ngenerate = \"points\"\n"
        );
        let json = campaign(&text, &["--json", "--jobs", "1"]).json();
        let row = &json["rows"][0];
        let places = [&["list", "boundaries", "--scheme", "naive", "--scenario", scenario][..], &["--json"]].concat();
        let list = vmm(&places).exits(0).json();
        let kernel = |b: &&serde_json::Value| {
            let at = b["place"].as_str().unwrap();
            // Where GS is the user's, swapping is right.
            let swapped =
                at.starts_with("user_code") || ["user.enter_iretq", "syscall.entry", "syscall.sysretq"].contains(&at);
            b["path"] == "golden" && !swapped
        };
        let visits =
            list["boundaries"].as_array().unwrap().iter().filter(kernel).map(|b| b["visits"].as_u64().unwrap());
        let visits: u64 = visits.sum();
        let failures = row["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "{row:#}");
        assert_eq!((&failures[0]["invariant"], &failures[0]["cases"]), (&"I10".into(), &visits.into()), "{scenario}");
    }
}

#[test]
fn a_scenario_is_refused_where_the_scheme_has_no_way_to_it() {
    let mut guest = Tiny::new(&[READY, END, HLT]);
    let manifest = guest.manifest.as_mut().unwrap();
    *manifest = manifest.replace("scheme s", "scheme s mode=pv").replace("scenario c", "scenario c ring3");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.elf");
    std::fs::write(&path, guest.bytes()).unwrap();
    let guest = ["--guest", path.to_str().unwrap()];
    vmm(&[&["run", "--scheme", "s", "--scenario", "c"], &guest[..]].concat()).exits(2).says(&["runs user code", "s"]);
    let text = "name = \"none\"\nschemes = [\"s\"]\nscenarios = [\"c\"]\ngenerate = \"points\"\n";
    campaign(text, &guest).exits(65).says(&["none of its schemes can"]);
}

/// One NMI at an instruction that the bug was about, told by nobody but the campaign's
/// sweep over all of them.
#[test]
fn bugs_that_need_user_code_are_found_and_their_twins_pass() {
    let found = |scheme: &str, scenario: &str, generate: &str| {
        let text =
            format!("name = \"bug\"\nschemes = [\"{scheme}\"]\nscenarios = [\"{scenario}\"]\ngenerate = {generate}\n");
        let row = campaign(&text, &["--json"]).json()["rows"][0].clone();
        (row["verdict"].as_str().unwrap().to_owned(), row["invariant"].clone(), row["schedule"].clone())
    };
    let (_, invariant, schedule) = found("bug-no-cpl-check", "user-rsp", "\"points\"");
    assert_eq!((invariant, schedule), ("I15".into(), "nmi@user_code.start#1".into()));
    let (_, invariant, schedule) = found("bug-syscall-gap", "user-rsp", "\"points\"");
    assert_eq!((invariant, schedule), ("I3".into(), "nmi@syscall.entry#1".into()));
    assert_eq!(found("bug-user-nmi-stack", "user-rsp", "\"points\"").0, "pass");
    let at_return = "{ schedules = ['nmi@user_code.start#1 nmi@entry#1'] }";
    let (_, invariant, _) = found("bug-user-nmi-stack", "user-segment", at_return);
    assert_eq!(invariant, "I14");
    assert_eq!(found("mainline", "user-segment", at_return).0, "pass");
}
