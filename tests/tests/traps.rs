//! TF and #DB: in the body, in the interrupted context, between an instruction and its
//! trap, and in #DB's own handler.

mod common;
use common::{campaign, vmm};
use serde_json::Value;

/// One schedule in every gear; its row.
fn run(scheme: &str, scenario: &str, schedule: &str, rest: &[&str]) -> Value {
    let args = ["run", "--scheme", scheme, "--scenario", scenario, "--schedule", schedule, "--gear", "all", "--json"];
    let json = vmm(&[&args[..], rest].concat()).json();
    assert_eq!(json["summary"]["disagreed"], 0, "{json:#}");
    json["rows"][0].clone()
}

#[test]
fn nmis_come_before_a_stepped_instruction_between_it_and_its_trap_and_in_the_handler() {
    for scheme in ["mainline", "linus-2010-fixed", "nmi-safe-return", "latch", "xen-flag", "xen-bit31", "fred"] {
        let handler = match scheme {
            "nmi-safe-return" => "safe_fault.debug",
            "xen-flag" => "pv_fault.debug",
            "xen-bit31" => "bit31_fault.debug",
            "fred" => "fred_fault.debug",
            _ => "fault.debug",
        };
        for at in [
            "single_step.under#1".to_owned(),
            "single_step.returned#2".to_owned(),
            "single_step.clear#1".to_owned(),
            format!("{handler}#1"),
            format!("{handler}#9"),
            format!("{handler}_exit#3"),
        ] {
            let row = run(scheme, "single-step", &format!("nmi@{at}"), &[]);
            assert_eq!(row["verdict"], "pass", "{scheme} {at}: {row:#}");
        }
    }
}

/// What the interrupted code traps at is compared: a golden run without any would make the
/// test above empty.
#[test]
fn the_stretch_is_stepped_instruction_by_instruction() {
    let json = vmm(&["list", "boundaries", "--scheme", "naive", "--scenario", "single-step", "--json"]).exits(0).json();
    let handler = |b: &&Value| b["place"] == "fault.debug" && b["path"] == "golden";
    let handler = json["boundaries"].as_array().unwrap().iter().find(handler).unwrap();
    // lea, pushf, pop, mov; twice call, add, ret, dec, jne; jmp, push, popf.
    assert_eq!(handler["visits"], 4 + 2 * 5 + 3, "{handler:#}");
}

#[test]
fn a_trap_in_the_body_unmasks_as_any_fault_does() {
    let nested = "nmi@work.fold#1 nmi@db_fault.stepped#1";
    let row = run("naive", "db-fault", nested, &[]);
    assert_eq!(row["invariant"], "I5", "{row:#}");
    for scheme in ["mainline", "linus-2010-fixed", "twin-rostedt", "xen-flag"] {
        let row = run(scheme, "db-fault", nested, &[]);
        assert_eq!(row["verdict"], "pass", "{scheme}: {row:#}");
    }
}

/// The weakness that the scheme's own header tells of.
#[test]
fn a_trap_flag_restored_by_popf_traps_at_the_return_instruction() {
    let row = run("nmi-safe-return", "step-fault", "nmi@short.shadow#1", &[]);
    assert_eq!(row["invariant"], "I16", "{row:#}");
    let detail = row["detail"].as_str().unwrap();
    assert!(
        detail.contains("took #DB at step_fault.after") && detail.contains("says #DB at step_fault.stepped"),
        "{row}"
    );
    let row = run("mainline", "step-fault", "nmi@short.shadow#1", &[]);
    assert_eq!(row["verdict"], "pass", "{row:#}");
}

#[test]
fn a_trap_that_a_body_does_not_take_is_missed() {
    let row = run("broken-i16-body", "step-fault", "nmi@short.shadow#1", &[]);
    assert!(row["detail"].as_str().unwrap().contains("took 0 traps; the scenario says 1"), "{row:#}");
}

#[test]
fn the_debug_stacks_bugs_are_found_and_the_twin_passes() {
    let text = |scheme: &str| {
        format!("name = \"t\"\nschemes = [\"{scheme}\"]\nscenarios = [\"single-step\"]\ngenerate = \"points\"\n")
    };
    for (scheme, invariant) in [("bug-debug-ist", "I5"), ("bug-debug-undo", "I12")] {
        let json = campaign(&text(scheme), &["--json"]).exits(1).json();
        let row = &json["rows"][0];
        assert_eq!((row["invariant"].as_str(), json["summary"]["disagreed"].as_u64()), (Some(invariant), Some(0)));
        // Only an NMI that interrupts the #DB handler shows it.
        assert!(row["schedule"].as_str().unwrap().starts_with("nmi@fault.debug"), "{row:#}");
        assert!(row["counts"]["pass"].as_u64().unwrap() > 0, "{row:#}");
    }
    campaign(&text("twin-debug-stack"), &["--json"]).exits(0);
    let found = vmm(&["explore", "--scheme", "bug-debug-undo", "--scenario", "single-step", "--json"]).exits(1).json();
    assert!(found.to_string().contains("UPDATE_DEBUG_STACK is 0x1"), "{found:#}");
}

/// KVM f86368493ec0. What the instruction pushes is all that the guest sees of it.
#[test]
fn a_hypervisors_trap_flag_shows_only_where_flags_are_saved() {
    let fault = ["--hv-bug", "nmi-window-sets-tf"];
    let row = run("mainline", "db-fault", "nmi@work.flags+0x3#1", &fault);
    assert_eq!(row["invariant"], "I16", "{row:#}");
    assert!(row["detail"].as_str().unwrap().contains("the golden run takes none there"), "{row:#}");
    for at in ["work.fold#1", "work.flags#1", "work.return#1"] {
        let row = run("mainline", "db-fault", &format!("nmi@{at}"), &fault);
        assert_eq!(row["verdict"], "pass", "{at}: {row:#}");
    }
}
