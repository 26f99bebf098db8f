//! The oracle is tested by guests that are broken on purpose: each breaks the one
//! invariant that it declares, and the lab reports that one and no other.

mod common;
use std::collections::BTreeSet;

use common::{campaign, vmm};
use vmm::oracle::Invariant;

/// The scenarios with user code, or those without, as a campaign lists them. Not that of a
/// 16-bit stack: there every plain return breaks I6, and not every host can show it.
fn scenarios(ring3: bool) -> String {
    let list = vmm(&["list", "scenarios", "--json"]).exits(0).json();
    let list = list["scenarios"].as_array().unwrap().iter().filter(|s| s["ring3"] == ring3);
    let list = list.filter(|s| s["scenario"] != "user-ss16");
    list.map(|s| format!("\"{}\"", s["scenario"].as_str().unwrap())).collect::<Vec<_>>().join(", ")
}

/// The invariants found in all scenarios of a kind. A livelock breaks I17, a triple fault I18.
fn found(scheme: &str, scenarios: &str, rest: &str) -> BTreeSet<String> {
    let text = format!("name = \"{scheme}\"\nschemes = [\"{scheme}\"]\nscenarios = [{scenarios}]\n{rest}");
    let json = campaign(&text, &["--json"]).json();
    assert_eq!(json["summary"]["disagreed"], 0, "{scheme}: {json:#}");
    let failures = json["rows"].as_array().unwrap().iter().flat_map(|r| r["failures"].as_array().unwrap().clone());
    failures.map(|f| f["invariant"].as_str().unwrap_or("none").to_owned()).collect()
}

#[test]
fn each_broken_guest_trips_exactly_the_invariant_that_it_declares() {
    let list = vmm(&["list", "schemes", "--all", "--json"]).exits(0).json();
    let list = list["schemes"].as_array().unwrap();
    let mut seen = BTreeSet::new();
    let (kernel, user) = (scenarios(false), scenarios(true));
    for scheme in list.iter().filter(|s| !s["broken"].is_null()) {
        let (name, declared) = (scheme["scheme"].as_str().unwrap(), scheme["broken"].as_str().unwrap());
        // A run that never ends costs the watchdog's time: fewer of them.
        let every = if declared == "I17" { 100 } else { 1 };
        // What gets user code wrong shows only where there is some.
        let place = if declared == "I15" { &user } else { &kernel };
        if declared == "I15" {
            assert_eq!(found(name, &kernel, "generate = \"points\"\n[window]\nfirst_every = 50\n"), BTreeSet::new());
        }
        let mut found_ = found(name, place, &format!("generate = \"points\"\n[window]\nfirst_every = {every}\n"));
        if found_.is_empty() {
            // What needs a second NMI: not in the body's faults, which unmask by themselves.
            let quiet = "generate = \"pairs\"\n[window]\nfirst_every = 60\n";
            found_ = found(name, place, quiet);
        }
        assert_eq!(found_, BTreeSet::from([declared.to_owned()]), "{name}");
        seen.insert(declared.to_owned());
    }
    // Latch and mask are the hypervisor's, and so are returns that fail; coverage is no guest's.
    let not_a_guests = [Invariant::Latch, Invariant::Block, Invariant::Atomicity, Invariant::Coverage];
    for invariant in Invariant::ALL.iter().filter(|i| !not_a_guests.contains(i)) {
        assert!(seen.contains(&invariant.to_string()), "no guest breaks {invariant}");
    }
}

/// I1 and I2 are the hypervisor's duties: `--hv-bug` plays one that fails in them.
#[test]
fn each_fault_of_the_hypervisor_trips_the_rule_that_it_breaks() {
    let nested = "nmi@work.fold#1 nmi@entry#1";
    let cases = [
        ("iret-keeps-blocked", "mainline", "quiet", nested, "I2"),
        ("iret-unblocks-early", "mainline", "quiet", nested, "I2"),
        ("second-nmi-lost", "mainline", "quiet", nested, "I1"),
        ("inverted-test-and-set", "xen-flag", "quiet", nested, "I1"),
        ("failed-iret-leaves-blocked", "mainline", "user-segment", "nmi@user_code.start#1", "I19"),
        ("nmi-window-sets-tf", "mainline", "db-fault", "nmi@work.flags+0x3#1", "I16"),
    ];
    for (fault, scheme, scenario, schedule, invariant) in cases {
        let args = [
            "run",
            "--scheme",
            scheme,
            "--scenario",
            scenario,
            "--schedule",
            schedule,
            "--hv-bug",
            fault,
            "--gear",
            "all",
        ];
        let json = vmm(&[&args[..], &["--json"]].concat()).exits(1).json();
        let row = &json["rows"][0];
        assert_eq!(row["invariant"], invariant, "{fault}: {json:#}");
        let replay = row["replay"].as_str().unwrap();
        assert!(replay.contains(&format!(" hv-bug={fault} ")), "{replay}");
        vmm(&["replay", replay]).exits(1);
    }
}

/// A body begins with DF set only where the interrupted code has set it: in one scenario.
#[test]
fn a_body_that_begins_with_the_interrupted_df_is_found_in_every_gear() {
    let run = |schedule: &str| {
        let args = ["run", "--scheme", "broken-i21", "--scenario", "flags", "--schedule", schedule, "--gear", "all"];
        vmm(&args)
    };
    let done = run("nmi@flags.under").exits(1);
    assert!(done.stdout.contains("violation(I21: the body begins with DF set"), "{}", done.stdout);
    run("nmi@flags.return").exits(0);
}
