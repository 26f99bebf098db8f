//! A 16-bit user stack, which not every KVM can show: where this one can, it is judged; where
//! not, that is said, and is neither a success nor a failure.

mod common;

use common::{campaign, check_document, vmm};

/// CVE-2015-3290 between the reads of RIP and CS, its twin, and a way back without espfix.
const CAMPAIGN: &str = r#"
name = "ss16"
schemes = ["bug-espfix", "bug-user-nmi-stack", "mainline"]
scenarios = ["user-ss16"]
generate = { schedules = ["nmi@user_code_16.start nmi@espfix.copy_cs#2"] }

[expect.bug-espfix]
user-ss16 = "violation(I15)"

[expect.bug-user-nmi-stack]
user-ss16 = "violation(I6)"
"#;

/// What `vmm probe` says of returns to a 16-bit stack segment of an LDT.
fn shown_here() -> bool {
    let ids = ["ring3-iretq-ldt", "ring3-iretq-ldt-rsp"];
    let report = vmm(&["probe", "--only", ids[0], "--only", ids[1], "--json"]).json();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{report:#}");
    rows.iter().all(|r| r["status"] == "ok")
}

#[test]
fn a_campaign_says_what_this_host_cannot_show_and_does_not_fail_for_it() {
    let generate = "{ schedules = [\"nmi@user_code_16.start nmi@espfix.copy_cs#2\"] }";
    let shown = shown_here();
    for text in [CAMPAIGN.to_owned(), CAMPAIGN.replace(generate, "\"closure\"").replace("I15", "I6")] {
        if shown && text.contains("closure") {
            continue; // a search of minutes, and no more about this than the other
        }
        let json = campaign(&text, &["--json"]).exits(0).json();
        check_document(&json);
        let rows = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 3);
        for row in rows {
            let (verdict, as_expected) = (&row["verdict"], &row["as_expected"]);
            match shown {
                true => assert_eq!(as_expected, true, "{row:#}"),
                false => assert_eq!((verdict, as_expected), (&"host-limit".into(), &serde_json::Value::Null)),
            }
        }
        let limited: u64 = if shown { 0 } else { 3 };
        assert_eq!(json["summary"]["host_limit"], limited);
        assert_eq!(json["summary"]["expected"], 3 - limited);
        let folder = tempfile::tempdir().unwrap();
        let junit = folder.path().join("junit.xml");
        let told = campaign(&text, &["--junit", junit.to_str().unwrap()]).exits(0).stdout;
        let junit = std::fs::read_to_string(junit).unwrap();
        assert_eq!(junit.matches("this host cannot show it (host-limit)").count() as u64, limited);
        assert_eq!(told.contains("3 NOT SHOWN BY THIS HOST (host-limit)"), !shown, "{told}");
    }
}

#[test]
fn an_expected_host_limit_is_as_expected() {
    let text = CAMPAIGN.replace("violation(I15)", "host-limit").replace("violation(I6)", "host-limit");
    let text = text + "\n[expect.mainline]\nuser-ss16 = \"host-limit\"\n";
    let expected = if shown_here() { (1, 0) } else { (0, 3) };
    let json = campaign(&text, &["--json"]).exits(expected.0).json();
    assert_eq!(json["summary"]["expected"], expected.1);
}

#[test]
fn a_single_run_says_why_it_cannot_be() {
    let target = ["--scheme", "mainline", "--scenario", "user-ss16"];
    if shown_here() {
        let run = [&["run"], &target[..], &["--schedule", "nmi@user_code_16.jump", "--gear", "all"]].concat();
        vmm(&run).exits(0);
        return;
    }
    for command in [&["run"][..], &["explore"], &["list", "boundaries"]] {
        vmm(&[command, &target].concat()).exits(69).says(&["cannot show it", "user-ss16", "ring3-iretq-ldt", "svm"]);
    }
}
