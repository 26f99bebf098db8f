//! User mode with FRED, as the VMM plays it: delivery from ring 3, ERETU, and an ERETU
//! that faults.

mod common;

use common::{campaign, vmm};

fn trace(scenario: &str, schedule: &str) -> String {
    vmm(&["run", "--scheme", "fred", "--scenario", scenario, "--schedule", schedule, "--trace"]).exits(0).stdout
}

/// The lines of a trace from the one that holds `from` on.
fn after<'a>(trace: &'a str, from: &str) -> impl Iterator<Item = &'a str> {
    let mut lines = trace.lines();
    lines.by_ref().find(|l| l.contains(from)).unwrap_or_else(|| panic!("{from}\n{trace}"));
    lines
}

#[test]
fn every_gear_agrees_on_each_boundary_of_the_way_in_and_out() {
    for place in [
        "fred_user.enter",
        "exit_eretu",
        "user_code.start",
        "user_code.syscall",
        "user_entry",
        "syscall",
        "user_code.after",
        "user_code.leave",
        "user.left",
    ] {
        let schedule = format!("nmi@{place}#1");
        let run = ["run", "--scheme", "fred", "--scenario", "user", "--schedule", &schedule, "--gear", "all", "--json"];
        let row = vmm(&run).exits(0).json()["rows"][0].clone();
        assert_eq!((&row["verdict"], &row["rechecked"]), (&"pass".into(), &2.into()), "{place}: {row:#}");
        assert_eq!(row["disagreements"], serde_json::json!([]), "{place}");
    }
}

#[test]
fn a_system_call_is_an_event_and_eretu_gives_ring_stack_and_gs_back_in_one_step() {
    let trace = trace("user", "");
    for place in ["user_code.syscall", "user_code.leave"] {
        let call = trace.lines().find(|l| l.contains(place)).unwrap();
        assert!(["cs=0x8", "ss=0x10", "gs=", "rsp="].iter().all(|w| call.contains(w)), "{call}");
        assert!(["rcx=", "r11="].iter().all(|w| !call.contains(w)), "FRED leaves them alone: {call}");
        assert!(after(&trace, place).next().unwrap().contains(" user_entry#"), "{trace}");
    }
    let returns: Vec<_> = trace.lines().filter(|l| l.contains(" exit_eretu#")).collect();
    assert_eq!(returns.len(), 2, "to the user, and back from its one system call\n{trace}");
    for line in returns {
        assert!(["cs=0x23", "ss=0x1b", "gs=", "rsp=0x40002000"].iter().all(|w| line.contains(w)), "{line}");
    }
}

#[test]
fn an_nmi_in_user_code_comes_to_stack_level_0_and_in_the_kernel_to_level_2() {
    let stack = |schedule: &str| {
        let trace = trace("user", schedule);
        let line = trace.lines().find(|l| l.contains("the NMI is delivered")).unwrap().to_owned();
        let entry = line.split_whitespace().skip_while(|w| *w != "delivered:").nth(1).unwrap().to_owned();
        let rsp = u64::from_str_radix(line.rsplit("0x").next().unwrap(), 16).unwrap();
        assert_eq!(rsp % 64, 0, "{line}");
        (entry, rsp)
    };
    let (from_user, user) = stack("nmi@user_code.after#1");
    let (from_kernel, kernel) = stack("nmi@syscall#1");
    assert_eq!((from_user.as_str(), from_kernel.as_str()), ("user_entry", "entry"));
    // That of a system call, which is empty while the user runs.
    let call = trace("user", "").lines().find(|l| l.contains("user_code.syscall")).unwrap().to_owned();
    assert!(call.contains(&format!("rsp={user:#x}")), "{call}");
    assert_ne!(user & !4095, kernel & !4095);
}

/// The body takes the user's segment away: the ERETU that ends the NMI raises #NP, and NMIs
/// stay blocked until the fault's ERETS, which has got the bit.
#[test]
fn a_faulting_eretu_unblocks_nothing_and_its_faults_return_does() {
    let trace = trace("user-segment", "nmi@user_code.after#1 nmi@nmi_body#1");
    let lines: Vec<_> = after(&trace, "and is latched").collect();
    let raised = lines.iter().position(|l| l.contains("#NP is raised")).expect("a #NP");
    let eretu = lines[raised - 1];
    let changed = ["cs=", "gs=", "flags=", "cr3="].iter().any(|w| eretu.contains(w));
    assert!(eretu.contains(" exit_eretu#") && !changed, "{eretu}");
    let columns = |line: &str| line.split_whitespace().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(columns(lines[raised + 1]), ["B", "P"], "blocked and pending as before: {}", lines[raised + 1]);
    let erets = lines[raised..].iter().position(|l| l.contains(" eretu_fault_erets#")).unwrap() + raised;
    assert_eq!(columns(lines[erets]), ["B", "P"], "{}", lines[erets]);
    assert!(lines[erets + 1].contains("the NMI is delivered"), "{}", lines[erets + 1]);
}

#[test]
fn every_pattern_of_nmis_is_covered_around_user_code() {
    for scenario in ["user", "user-rsp"] {
        let found = vmm(&["explore", "--scheme", "fred", "--scenario", scenario]).exits(0).stdout;
        assert!(found.contains("pass, closed"), "{found}");
        assert!(found.contains("CPL3 user GS") && !found.contains("CPL0 user GS"), "no swapgs gap: {found}");
    }
}

/// Xen 99edc6c2a0f5: found by one NMI in user code, told by nobody where.
#[test]
fn an_nmi_bit_that_is_lost_with_a_faulting_eretu_is_found_and_its_twin_passes() {
    let text = "name = \"eretu\"\nschemes = [\"bug-fred-eretu\", \"fred\"]\n\
                scenarios = [\"user\", \"user-segment\"]\ngenerate = \"points\"\n\
                [expect.bug-fred-eretu]\nuser-segment = \"violation(I12)\"\n";
    let json = campaign(text, &["--json"]).exits(0).json();
    let bug = &json["rows"][1];
    assert_eq!((&bug["scenario"], &bug["schedule"]), (&"user-segment".into(), &"nmi@user_code.start#1".into()));
    assert!(bug["detail"].as_str().unwrap().contains("still blocked after the return to user_code.start"), "{bug:#}");
    assert_eq!(json["summary"]["disagreed"], 0);
}
