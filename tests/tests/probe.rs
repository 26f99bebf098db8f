//! `vmm probe` and `vmm agree`, as a user runs them.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::VMM;
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    Command::new(VMM).args(args).output().unwrap()
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
#[allow(clippy::print_stderr)] // a skipped test must be seen
fn without_dev(prepare: &str) -> Option<Output> {
    let script = format!("mount -t tmpfs none /dev && {prepare} \"$0\" probe");
    let out = Command::new("unshare").args(["-rm", "sh", "-c", &script]).arg(VMM).output().ok()?;
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

/// The program's answer where what was measured of the host is kept in `cache`.
fn with_cache(cache: &Path, args: &[&str]) -> Output {
    Command::new(VMM).env("XDG_CACHE_HOME", cache).args(args).output().unwrap()
}

/// The one report that is kept in `cache`.
fn kept(cache: &Path) -> (PathBuf, Value) {
    let mut files = std::fs::read_dir(cache.join("nmi-lab/probe")).unwrap();
    let path = files.next().expect("a report is kept").unwrap().path();
    assert!(files.next().is_none(), "one host, one report");
    let report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (path, report)
}

/// Changes the status of one row of the kept report.
fn pretend(cache: &Path, id: &str, status: &str) {
    let (path, mut report) = kept(cache);
    let rows = report["rows"].as_array_mut().unwrap();
    rows.iter_mut().find(|r| r["id"] == id).unwrap()["status"] = status.into();
    std::fs::write(path, report.to_string()).unwrap();
}

const RUN: [&str; 6] = ["run", "--scheme", "naive", "--scenario", "bp-fault", "--json"];

#[test]
fn results_carry_the_fingerprint_of_the_probe() {
    let cache = tempfile::tempdir().unwrap();
    let run = with_cache(cache.path(), &RUN);
    let document: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(document["host"], kept(cache.path()).1["host"]);
    assert_eq!(document["host"], report(&[])["host"]);
}

#[test]
fn a_host_without_exact_nmis_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    with_cache(cache.path(), &["probe"]);
    pretend(cache.path(), "nmi-at-rip", "differs");
    let refused = with_cache(cache.path(), &RUN);
    assert_eq!(refused.status.code(), Some(69));
    let why = text(&refused.stderr);
    assert!(why.contains("nmi-at-rip") && why.contains("vmm probe"), "{why}");
    with_cache(cache.path(), &["probe"]);
    assert_eq!(with_cache(cache.path(), &RUN).status.code(), Some(0), "a new measurement replaces the old one");
}

/// The int3 workaround is chosen by what the probe says, and by nothing else: where the
/// host lacks int3 and the probe were to say that it has it, the lab must say host-limit;
/// where the host has it, a needless workaround changes nothing.
#[test]
fn workarounds_follow_the_probe() {
    let cache = tempfile::tempdir().unwrap();
    with_cache(cache.path(), &["probe"]);
    let has_it =
        kept(cache.path()).1["rows"].as_array().unwrap().iter().any(|r| r["id"] == "int3" && r["status"] == "ok");
    pretend(cache.path(), "int3", if has_it { "differs" } else { "ok" });
    let run = with_cache(cache.path(), &[&RUN[..], &["--schedule", "nmi@work.fill"]].concat());
    let document: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&run.stderr)));
    assert_eq!(document["rows"][0]["verdict"], if has_it { "pass" } else { "host-limit" });
}

#[test]
fn the_model_and_this_host_are_compared_form_by_form() {
    let report = report(&["--model", "--cases", "4", "--only", "add", "--only", "iretq"]);
    common::is_documented(&report, &[]);
    let forms = report["forms"].as_array().unwrap();
    for row in forms {
        let count = |key: &str| row[key].as_u64().unwrap();
        let name = row["form"].as_str().unwrap();
        assert!(name.starts_with("add") || name.starts_with("iretq"), "{row}");
        let all: u64 = ["same", "not_understood", "not_run", "deviates", "differs"].into_iter().map(count).sum();
        assert_eq!(all, 4, "{row}");
        assert_eq!(count("differs"), 0, "{row}");
        assert!(name != "add" || count("same") > 0, "{row}");
    }
    assert!(forms.iter().any(|row| row["cpl"] == 3) && forms.iter().any(|row| row["cpl"] == 0));
    let text_of =
        |args: &[&str]| text(&run(&[&["probe", "--model", "--cases", "4", "--only", "add"], args].concat()).stdout);
    assert!(text_of(&[]).contains("do as the model says in each of 4 cases"));
    assert!(text_of(&["--format", "junit"]).contains("<testsuite"));
    let wrong = run(&["probe", "--model", "--only", "addsub"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("no form's name begins with addsub"));
}
