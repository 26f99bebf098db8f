//! `vmm probe` and `vmm agree`, as a user runs them.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The program, built in the profile of this test.
fn vmm() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap(); // target/<profile>/deps/<test>
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "vmm", "--bin", "vmm"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "vmm does not build");
        profile.join("vmm")
    })
}

fn run(args: &[&str]) -> Output {
    Command::new(vmm()).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn report(args: &[&str]) -> Value {
    let out = run(&[&["probe", "--json"], args].concat());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn every_run_gives_the_same_answers_and_fingerprint() {
    let first = report(&[]);
    let answers = |r: &Value| -> Vec<String> {
        r["rows"].as_array().unwrap().iter().map(|row| format!("{}: {}", row["id"], row["answer"])).collect()
    };
    for _ in 0..4 {
        let again = report(&[]);
        assert_eq!(answers(&again), answers(&first));
        assert_eq!(again["host"], first["host"]);
    }
}

#[test]
fn the_json_is_as_documented() {
    let report = report(&[]);
    assert_eq!(report["schema"], 1);
    for key in ["fingerprint", "kernel", "kvm", "cpu"] {
        assert!(!report["host"][key].as_str().unwrap().is_empty(), "{key}");
    }
    let rows = report["rows"].as_array().unwrap();
    let ids: Vec<_> = rows.iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, vmm::probe::probes().map(|p| p.id).collect::<Vec<_>>());
    for row in rows {
        let right: Vec<_> = row["right"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        for key in ["property", "source", "lab"] {
            assert!(!row[key].as_str().unwrap().is_empty(), "{row}");
        }
        let expected = match row["answer"].as_str() {
            None => "unknown",
            Some(answer) if right.is_empty() || right.contains(&answer) => "ok",
            Some(_) => "differs",
        };
        assert_eq!(row["status"], expected, "{row}");
        assert!(row["answer"].is_string() || row["detail"].is_string(), "no answer and no reason: {row}");
    }
}

#[test]
fn what_the_lab_stands_on_holds_on_this_host() {
    let report = report(&[]);
    for id in ["nmi-at-rip", "nmi-in-events", "nmi-at-hlt-stop", "unmask-iretq", "unmask-popfq", "out-nmi", "watchdog"]
    {
        let row = report["rows"].as_array().unwrap().iter().find(|r| r["id"] == id).unwrap();
        assert_eq!(row["status"], "ok", "{row}");
    }
}

#[test]
fn one_probe_alone() {
    let report = report(&["--only", "nmi-at-rip"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    let out = run(&["probe", "--only", "no-such-probe"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("nmi-at-rip"), "{}", text(&out.stderr));
}

#[test]
fn the_table_tells_each_property_and_the_fingerprint() {
    let out = run(&["probe", "--only", "nmi-at-rip", "--only", "watchdog"]);
    let shown = text(&out.stdout);
    assert!(shown.contains("nmi-at-rip") && shown.contains("Nonmaskable") && shown.contains("interrupted"), "{shown}");
    assert!(shown.lines().last().unwrap().starts_with("host "), "{shown}");
}

/// Runs the program where /dev is empty but for what `prepare` puts there. `None` where
/// this machine allows no namespaces.
fn without_dev(prepare: &str) -> Option<Output> {
    let script = format!("mount -t tmpfs none /dev && {prepare} \"$0\" probe");
    let out = Command::new("unshare").args(["-rm", "sh", "-c", &script]).arg(vmm()).output().ok()?;
    if out.status.code() == Some(1) {
        eprintln!("skipped, no namespaces here: {}", text(&out.stderr));
        return None;
    }
    Some(out)
}

#[test]
fn no_kvm_gives_the_reason_and_the_cure() {
    let Some(out) = without_dev("exec") else { return };
    assert_eq!(out.status.code(), Some(69), "{}", text(&out.stderr));
    let told = text(&out.stderr);
    assert!(told.contains("no /dev/kvm") && told.contains("scripts/hosts/svm"), "{told}");
    assert!(out.stdout.is_empty());
}

#[test]
fn no_permission_gives_the_reason_and_the_cure() {
    // Root without capabilities is nobody.
    let nobody = ": >/dev/kvm && chmod 0 /dev/kvm && exec setpriv --bounding-set=-all --inh-caps=-all";
    let Some(out) = without_dev(nobody) else { return };
    assert_eq!(out.status.code(), Some(69), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("usermod -aG kvm"), "{}", text(&out.stderr));
}

#[test]
fn reports_are_compared_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here.json"), dir.path().join("there.json"));
    let mut report = report(&["--only", "nmi-at-rip", "--only", "unmask-iretq"]);
    std::fs::write(&here, report.to_string()).unwrap();
    report["host"]["kvm"] = "kvm_other".into();
    report["rows"][0]["answer"] = "late".into();
    report["rows"][0]["status"] = "differs".into();
    std::fs::write(&there, report.to_string()).unwrap();
    let out = run(&["probe", "--compare", here.to_str().unwrap(), there.to_str().unwrap(), "--markdown"]);
    let table = text(&out.stdout);
    let line = |id: &str| table.lines().find(|l| l.contains(id)).unwrap().to_owned();
    assert!(table.lines().next().unwrap().contains("kvm_other"), "{table}");
    assert!(line("nmi-at-rip").contains('≠') && line("nmi-at-rip").contains("late"), "{table}");
    assert!(!line("unmask-iretq").contains('≠'), "{table}");

    std::fs::write(&there, "{}").unwrap();
    let out = run(&["probe", "--compare", here.to_str().unwrap(), there.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(65));
    assert!(text(&out.stderr).contains("there.json"), "{}", text(&out.stderr));
}

#[test]
fn results_of_hosts_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here.json"), dir.path().join("there.json"));
    let out = run(&["run", "--scheme", "naive", "--scenario", "quiet", "--json"]);
    std::fs::write(&here, &out.stdout).unwrap();
    let mut results: Value = serde_json::from_slice(&out.stdout).unwrap();
    results["host"]["kvm"] = "kvm_other".into();
    let agree = |there_is: &str| {
        std::fs::write(&there, there_is).unwrap();
        let out = run(&["agree", here.to_str().unwrap(), there.to_str().unwrap()]);
        (out.status.code(), text(&out.stdout) + &text(&out.stderr))
    };

    let (code, told) = agree(&results.to_string());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 rows, 1 cases: 0 disagreements, 0 host-limits"), "{told}");

    let row = &mut results["rows"][0];
    (row["verdict"], row["counts"]) = ("shutdown".into(), serde_json::json!({ "shutdown": 1 }));
    row["failures"] = serde_json::json!([{"verdict": "shutdown", "invariant": "I18", "cases": 1, "schedule": ""}]);
    let (code, told) = agree(&results.to_string());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("DISAGREE    naive/quiet/native"), "{told}");

    results["image"] = "0123456789abcdef".into();
    let (code, told) = agree(&results.to_string());
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("image"), "{told}");
}
