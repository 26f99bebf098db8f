//! What comes from outside besides NMIs: machine checks (`mce@`) and a maskable interrupt
//! (`irq@`), alone, in an NMI's handler, and with an NMI in theirs.

mod common;
use common::{campaign, vmm};

/// A schedule in every gear.
#[track_caller]
fn comes_to(scheme: &str, scenario: &str, schedule: &str, verdict: &str) {
    let args = ["run", "--scheme", scheme, "--scenario", scenario, "--schedule", schedule, "--gear", "all"];
    let done = vmm(&args);
    assert_eq!(
        done.code,
        i32::from(verdict != "pass"),
        "{scheme}/{scenario} {schedule}: {}{}",
        done.stdout,
        done.stderr
    );
    assert!(done.stdout.contains(verdict), "{scheme}/{scenario} {schedule}: {}", done.stdout);
}

#[test]
fn a_machine_check_alone_is_survived_wherever_it_comes() {
    for (scenario, places) in [
        ("quiet", &["work.fold", "work.shadow+0x2", "work.shadow+0x4"][..]),
        ("user", &["user_code.start", "syscall.entry", "syscall.kernel_gs", "syscall.user_stack", "syscall.sysretq"]),
        ("user-gs", &["user_gs.start", "syscall.entry", "syscall.sysretq"]),
    ] {
        for place in places {
            comes_to("naive", scenario, &format!("mce@{place}#1"), "pass");
            comes_to("naive", scenario, &format!("nmi@{place}#1 mce@naive.exit_iret#1"), "pass");
        }
    }
}

/// Each handler is wrong in one thing, and `naive` has none of them.
#[test]
fn wrong_handlers_of_machine_checks_are_found() {
    let cases = [
        ("bug-mce-rbx", "quiet", "mce@work.fold#1", "violation(I6"),
        ("bug-mce-rbx", "quiet", "nmi@work.fold#1 mce@naive.entry#1", "violation(I6"),
        ("bug-mce-gs", "user", "mce@syscall.entry#1", "violation(I7"),
        ("bug-mce-stack", "quiet", "nmi@work.fold#1 mce@naive.body#1", "violation(I14"),
    ];
    for (scheme, scenario, schedule, verdict) in cases {
        comes_to(scheme, scenario, schedule, verdict);
        comes_to("naive", scenario, schedule, "pass");
    }
}

/// Its iretq unblocks NMIs: before the frame is copied no scheme with an IST survives the next
/// one, and in the body those do that are made for nested NMIs.
#[test]
fn the_iretq_of_a_machine_check_unblocks_nmis() {
    let in_body = "nmi@work.fold#1 mce@body#1 nmi@body#2";
    let before = "nmi@work.fold#1 mce@entry#1 nmi@entry#2";
    for scheme in ["mainline", "linus-2010-fixed"] {
        comes_to(scheme, "quiet", in_body, "pass");
        comes_to(scheme, "quiet", before, "violation(I14");
    }
    // A frame that is rewritten where the body is shown it (28696f434fef), and no nesting at all.
    for scheme in ["rostedt-2012", "naive"] {
        comes_to(scheme, "quiet", in_body, "violation(I14");
    }
    comes_to("latch", "quiet", before, "pass");
    // An NMI in the machine check's handler, which came while NMIs were open, and while blocked.
    comes_to("mainline", "quiet", "mce@work.fold#1 nmi@mce.entry#1", "pass");
    comes_to("mainline", "quiet", "mce@work.fold#1 nmi@mce.exit_iret#1", "pass");
    comes_to("mainline", "quiet", "nmi@work.fold#1 mce@body#1 nmi@mce.body#1", "pass");
}

#[test]
fn an_interrupt_in_a_body_that_opened_them_unblocks_nmis() {
    comes_to("mainline", "irq-body", "irq@irq_body.open#1", "pass");
    comes_to("mainline", "irq-body", "nmi@short.work#1 irq@irq_body.open#2", "pass");
    comes_to("mainline", "irq-body", "nmi@short.work#1 irq@irq_body.open#2 nmi@irq_body.close#2", "pass");
    comes_to("naive", "irq-body", "nmi@short.work#1 irq@irq_body.open#2 nmi@irq_body.close#2", "violation(I5");
}

#[test]
fn what_no_cpu_delivers_is_no_pass() {
    let second = "mce@work.fold#1 mce@mce.entry#1";
    comes_to("naive", "quiet", second, "shutdown");
    for (scheme, schedule, why) in [
        ("naive", "irq@work.fold#1", "RFLAGS.IF"),
        ("naive", "db@work.fold#1", "whose note says breakpoints"),
        ("xen-flag", "mce@work.fold#1", "the hypervisor's"),
    ] {
        let args = ["run", "--scheme", scheme, "--scenario", "quiet", "--schedule", schedule, "--gear", "all"];
        vmm(&args).exits(1).prints(&["host-limit", why]);
    }
}

/// The search finds by itself what the schedules above show, and closes where nothing is wrong.
#[test]
fn the_search_has_machine_checks_arrive_everywhere() {
    let explore = |scheme: &str, scenario: &str, events: &str| {
        let args = ["explore", "--scheme", scheme, "--scenario", scenario, "--events", events, "--json"];
        vmm(&args).json()
    };
    let found = explore("mainline", "irq-body", "nmi,mce");
    assert_eq!(found["verdict"], "violation", "{found}");
    let schedule = found["violations"][0]["schedule"].as_str().unwrap();
    assert!(schedule.contains("mce@") && schedule.matches("nmi@").count() == 2, "{schedule}");
    assert_eq!(found["deviations"].as_array().map(Vec::len), Some(0), "{found}");
    let found = explore("bug-mce-rbx", "irq-body", "nmi,mce");
    assert_eq!((found["violations"][0]["invariant"].as_str()), Some("I6"), "{found}");
    let found = explore("mainline", "irq-body", "nmi,irq");
    assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{found}");
}

/// A breakpoint's #DB, in an NMI's handler, around one, and with one in its own.
#[test]
fn a_breakpoint_may_hit_in_a_handler_and_its_iretq_unblocks_nmis() {
    let in_nmi = "nmi@short.work#1 db@body#1";
    let around = "db@short.work#1 nmi@fault.debug#1 db@nmi_body#1";
    let nested = "nmi@short.work#1 db@body#1 nmi@fault.debug#1";
    for schedule in ["db@short.work#1", in_nmi, around, nested] {
        comes_to("mainline", "watch", schedule, "pass");
    }
    comes_to("naive", "watch", in_nmi, "pass");
    comes_to("naive", "watch", around, "pass");
    comes_to("naive", "watch", nested, "violation(I14");
    // Its gate names the NMI stack.
    comes_to("bug-db-nmi-stack", "watch", "db@short.work#1", "pass");
    comes_to("bug-db-nmi-stack", "watch", in_nmi, "violation(I14");
    // A stack of its own, which the second #DB begins on again; the twin's NMI takes it away.
    comes_to("bug-debug-ist", "watch", around, "violation(I8");
    comes_to("bug-debug-undo", "watch", around, "violation(I12");
    comes_to("twin-debug-stack", "watch", around, "pass");
}

/// A scheme none of whose handlers returns to an NMI by iretq. That of a machine check or #DB before
/// the frame is copied breaks the others.
#[test]
fn what_returns_to_an_nmi_without_iretq_is_proved_with_machine_checks() {
    let explore = |scheme: &str, events: &str| {
        vmm(&["explore", "--scheme", scheme, "--scenario", "watch", "--events", events, "--json"]).json()
    };
    let found = explore("nmi-safe-return", "nmi,mce");
    assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{found}");
    assert_eq!(explore("mainline", "nmi,db")["verdict"], "violation");
    comes_to("nmi-safe-return", "watch", "nmi@short.work#1 mce@entry#1 nmi@entry#2", "pass");
}

#[test]
fn a_campaign_may_have_events_and_closed_searches_of_them() {
    let text = "name = \"c\"\nschemes = [\"naive\"]\nscenarios = [\"irq-body\"]\ngenerate = { closure = { events = [\"nmi\", \"irq\"] } }\n";
    let json = campaign(text, &["--json"]).json();
    assert_eq!(json["rows"][0]["failures"][0]["invariant"], "I5", "{json:#}");
    let text = "name = \"c\"\nschemes = [\"naive\"]\nscenarios = [\"quiet\"]\ngenerate = { closure = { events = [\"mce\"] } }\n";
    campaign(text, &[]).exits(65).says(&["without NMIs there is nothing to explore"]);
}

#[test]
fn a_trace_and_a_picture_tell_of_a_machine_check() {
    let schedule = "nmi@work.fold#1 mce@body#1";
    let args = ["run", "--scheme", "mainline", "--scenario", "quiet", "--schedule", schedule, "--trace"];
    vmm(&args)
        .exits(0)
        .prints(&["a machine check arrives (at body", "the machine check is delivered: mce.entry begins"]);
}

/// An NMI at the boundary after a HLT woke the CPU, and goes back to there; without one it is woken
/// all the same, so that the run without NMIs ends.
#[test]
fn a_guest_may_wait_for_an_nmi_by_hlt() {
    for scheme in ["mainline", "latch", "nmi-safe-return"] {
        for schedule in ["", "nmi@halt.wait#1", "nmi@halt.woken#1", "nmi@halt.woken#1 nmi@halt.woken#2"] {
            comes_to(scheme, "halt", schedule, "pass");
        }
    }
    let found = vmm(&["explore", "--scheme", "mainline", "--scenario", "halt", "--json"]).json();
    assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{found}");
    assert_eq!(found["deviations"].as_array().map(Vec::len), Some(0), "{found}");
}

/// An SMI whose handler ends by RSM changes nothing that a guest can see; one that a bug makes lose
/// the mask is found by a search, too.
#[test]
fn an_smi_leaves_nmis_blocked() {
    for scheme in ["mainline", "naive", "fred"] {
        for schedule in ["smi@work.fold#1", "nmi@work.fold#1 smi@body#1 nmi@body#1"] {
            comes_to(scheme, "quiet", schedule, "pass");
        }
    }
    let args = ["explore", "--scheme", "mainline", "--scenario", "watch", "--events", "nmi,smi", "--json"];
    assert_eq!(vmm(&args).exits(0).json()["verdict"], "pass");
    let found = vmm(&[&args[..], &["--hv-bug", "rsm-unblocks"]].concat()).exits(1).json();
    assert_eq!(found["violations"][0]["invariant"], "I2", "{found}");
}

/// Where this host has SMIs, they are real; where it has none, results say that they were played.
#[test]
fn results_say_where_smis_were_played() {
    let probed = vmm(&["probe", "--only", "smi-in-nmi", "--only", "smi-and-nmi", "--json"]).json();
    let real = probed["rows"].as_array().unwrap().iter().all(|row| row["status"] == "ok" && row["answer"] != "no SMM");
    let played = if real { serde_json::Value::Null } else { true.into() };
    let text = r#"
name = "smi"
schemes = ["mainline"]
scenarios = ["quiet"]
generate = { schedules = ["nmi@work.fold#1 smi@body#1"] }
"#;
    let row = &campaign(text, &["--json"]).exits(0).json()["rows"][0];
    assert_eq!(row["smi_played"], played, "{row}");
    let run = vmm(&["run", "--scheme", "mainline", "--scenario", "quiet", "--schedule", "smi@work.fold#1"]).exits(0);
    assert_eq!(run.stderr.contains("SMIs were played by the lab"), !real, "{}", run.stderr);
}

/// What an NMI's handler must switch besides GS and CR3.
#[test]
fn breakpoints_an_msr_and_vector_registers_are_switched_or_that_is_found() {
    for (scheme, scenario, at, verdict) in [
        ("twin-dr7", "armed", "armed.on", "pass"),
        ("bug-dr7-kept", "armed", "armed.on", "violation(I21"),
        ("bug-dr7-kept", "armed", "armed.off", "pass"),
        ("bug-dr7-lost", "armed", "armed.on", "violation(I6"),
        ("twin-spec-ctrl", "spec-ctrl", "spec_ctrl.gap", "pass"),
        ("bug-spec-ctrl-cs", "spec-ctrl", "spec_ctrl.gap", "violation(I21"),
        ("bug-spec-ctrl-lost", "spec-ctrl", "spec_ctrl.gap", "violation(I6"),
        ("bug-spec-ctrl-lost", "spec-ctrl", "spec_ctrl.kernel", "pass"),
        ("twin-fpu", "fpu", "fpu.end", "pass"),
        ("bug-fpu-area", "fpu", "fpu.end", "violation(I7"),
        ("bug-fpu-lost", "fpu", "fpu.end", "violation(I6"),
    ] {
        comes_to(scheme, scenario, &format!("nmi@{at}#1"), verdict);
    }
}
