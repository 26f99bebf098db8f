//! User mode under the hypervisor: it switches rings, page tables and GS, takes the
//! user's SYSCALLs and delivers NMIs to the kernel's stack.

mod common;

use common::{campaign, vmm};

const XEN: [&str; 3] = ["xen-always", "xen-bit31", "xen-flag"];

fn user(command: &str, scheme: &str, rest: &[&str]) -> Vec<String> {
    let args = [&[command, "--scheme", scheme, "--scenario", "user"], rest].concat();
    args.into_iter().map(str::to_owned).collect()
}

fn run(args: Vec<String>) -> common::Done {
    vmm(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_gear_agrees_on_each_boundary_of_the_ring_switch() {
    for place in [
        "pv_user.enter_iret",
        "HYPERVISOR_iret+0x5",
        "user_code.start",
        "user_code.syscall",
        "pv_syscall.entry",
        "pv_syscall.exit_iret",
        "user_code.after",
        "user_code.leave",
        "user.left",
    ] {
        let schedule = format!("nmi@{place}#1");
        let done = run(user("run", "xen-flag", &["--schedule", &schedule, "--gear", "all", "--json"])).exits(0).json();
        let row = &done["rows"][0];
        assert_eq!((&row["verdict"], &row["rechecked"]), (&"pass".into(), &2.into()), "{place}: {row:#}");
        assert_eq!(row["disagreements"], serde_json::json!([]), "{place}");
    }
}

/// The lines of a trace from the one that holds `from` on.
fn after<'a>(trace: &'a str, from: &str) -> impl Iterator<Item = &'a str> {
    let mut lines = trace.lines();
    lines.by_ref().find(|l| l.contains(from)).unwrap_or_else(|| panic!("{from}\n{trace}"));
    lines
}

#[test]
fn the_switch_loads_ring_page_table_and_gs_in_one_step_and_a_system_call_comes_back() {
    let trace = run(user("run", "xen-flag", &["--trace"])).exits(0).stdout;
    let calls: Vec<_> = trace.lines().filter(|l| l.contains("HYPERVISOR_iret+0x5")).collect();
    assert_eq!(calls.len(), 2, "to the user, and back from its one system call\n{trace}");
    for call in calls {
        assert!(["cs=0x23", "ss=0x1b", "gs=", "cr3=", "rsp=0x40002000"].iter().all(|w| call.contains(w)), "{call}");
    }
    for place in ["user_code.syscall", "user_code.leave"] {
        let call = trace.lines().find(|l| l.contains(place)).unwrap();
        assert!(["cs=0x8", "ss=0x10", "gs=", "cr3="].iter().all(|w| call.contains(w)), "{call}");
        assert!(after(&trace, place).next().unwrap().contains("pv_syscall.entry"), "{trace}");
    }
}

#[test]
fn an_nmi_that_was_held_back_is_delivered_at_the_users_first_boundary() {
    let schedule = "nmi@user_code.syscall#1 nmi@nmi_body#1";
    let trace = run(user("run", "xen-flag", &["--schedule", schedule, "--trace"])).exits(0).stdout;
    let kept: Vec<_> = after(&trace, "and is latched").collect();
    // The return that unmasks leads to user mode; nothing is executed there before the next.
    let at = kept.iter().position(|l| l.contains("cs=0x23")).expect("a return to the user");
    assert!(kept[at].contains("HYPERVISOR_iret+0x5"), "{}", kept[at]);
    assert!(kept[at + 1].contains("the NMI is delivered"), "{}", kept[at + 1]);
    let stack = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
    let first = trace.lines().find(|l| l.contains("the NMI is delivered")).unwrap();
    assert_eq!(stack(first), stack(kept[at + 1]), "both come to the top of the kernel's stack");
}

#[test]
fn one_nmi_at_every_boundary_survives_and_a_second_tells_the_policies_apart() {
    let text = |generate: &str| {
        format!(
            "name = \"switch\"\nschemes = {XEN:?}\nscenarios = [\"user\", \"user-rsp\", \"user-segment\"]\ngenerate = \"{generate}\"\n"
        )
    };
    let points = campaign(&text("points"), &["--json"]).exits(0).json();
    assert!(points["rows"].as_array().unwrap().iter().all(|r| r["cases"].as_u64().unwrap() > 100), "{points:#}");
    let window =
        "[window]\nfirst_every = 20\n[expect.xen-always]\nuser = \"violation(I5)\"\nuser-rsp = \"violation(I5)\"\n";
    let pairs = campaign(&(text("pairs") + window), &["--json"]).exits(0).json();
    assert_eq!(pairs["summary"]["disagreed"], 0);
}

#[test]
fn where_the_hypervisor_switches_every_pattern_of_nmis_is_covered() {
    for (scheme, scenario) in [("xen-flag", "user"), ("xen-bit31", "user"), ("xen-flag", "user-segment")] {
        let found = vmm(&["explore", "--scheme", scheme, "--scenario", scenario]).exits(0).stdout;
        assert!(found.contains("pass, closed"), "{found}");
        assert!(found.contains("nesting      1 NMIs live at once at most"), "{found}");
    }
}

/// The NMI's body takes the user's code segment away: the return that ends the NMI fails.
#[test]
fn a_refused_return_changes_nothing_and_is_made_again() {
    let schedule = "nmi@user_code.syscall#1 nmi@nmi_body#1";
    let args = ["run", "--scheme", "xen-flag", "--scenario", "user-segment", "--schedule", schedule, "--trace"];
    let trace = vmm(&args).exits(0).stdout;
    // At the user's SYSCALL, and again when it is interrupted by the one that was held back.
    let lines: Vec<_> = after(&trace, "and is latched").collect();
    let handler = lines.iter().position(|l| l.contains("pv_fault.general_protection#")).expect("a #GP");
    let call = lines[handler - 2]; // between them: that a #GP is raised
    assert!(call.contains("HYPERVISOR_iret+0x5") && !call.contains("cs=") && !call.contains("cr3="), "{call}");
    let columns = |line: &str| line.split_whitespace().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(columns(lines[handler]), ["B", "P"], "masked and pending as before: {}", lines[handler]);
    let again = lines[handler..].iter().position(|l| l.contains("cs=0x3b")).expect("the return succeeds");
    assert!(lines[handler + again].contains("HYPERVISOR_iret+0x5"), "{}", lines[handler + again]);
    assert!(lines[handler + again + 1].contains("the NMI is delivered"), "{}", lines[handler + again + 1]);
}
