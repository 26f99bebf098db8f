//! Ctrl-C: what was found is reported and kept.

mod common;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{SMALL, campaign_file, command, gcc, vmm};

#[test]
fn an_interrupted_campaign_reports_what_it_found_and_goes_on_later() {
    let (dir, file) = campaign_file(&SMALL.replace("first_every = 120", "first_every = 1"));
    let out = dir.path().join("out");
    let args = ["campaign", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--json"];
    let child = command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let units = out.join("units.jsonl");
    let begin = Instant::now();
    while std::fs::metadata(&units).map_or(0, |m| m.len()) < 500 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no unit was run");
        std::thread::sleep(Duration::from_millis(5));
    }
    interrupt(child.id());
    let asked = Instant::now();
    let done = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "it must stop at the next case");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("stopping at the next case") && stderr.contains("goes on from"), "{stderr}");
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    common::check_document(&found);
    assert_eq!(found["complete"], false);
    assert!(found["summary"]["cases"].as_u64().unwrap() > 0);

    // What it kept can be looked at, and is what a later run goes on from.
    let kept = vmm(&["merge", out.to_str().unwrap(), "--json"]).says(&["not complete"]).json();
    assert!(kept["summary"]["cases"].as_u64().unwrap() > 0);
}

#[test]
fn a_second_interrupt_ends_at_once() {
    // Two interrupts while the program is still at the beginning of a long campaign.
    let (_dir, file) = campaign_file(&SMALL.replace("first_every = 120", "first_every = 1"));
    let mut child = command()
        .args(["campaign", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    interrupt(child.id());
    std::thread::sleep(Duration::from_millis(2));
    interrupt(child.id());
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 75)), "{code:?}");
}

/// A search spends seconds on what does not end: in the model, on KVM, and in each gear once more.
/// Whatever it is at, it stops, and reports.
#[test]
fn a_search_stops_within_two_seconds_whatever_it_is_at() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("entry.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/entries/spin.S");
    let include = format!("-I{}", gcc::examples().join("include").display());
    let mut build = std::process::Command::new("gcc");
    gcc::must(build.args(["-c", "-DCOUNT", "-fno-pic", "-mcmodel=kernel", &include, "-o"]).arg(&object).arg(source));
    let long = ["explore", "--scheme", "mainline", "--scenario", "db-fault", "--every-episode", "--json"];
    let spin = ["explore", "--entry", object.to_str().unwrap(), "--scheme", "custom", "--scenario", "quiet", "--json"];
    for (args, after) in [(&spin[..], 300), (&spin, 900), (&spin, 1800), (&spin, 3600), (&long, 700), (&long, 2500)] {
        // A machine that is busy with something else may be late once.
        let times = [(); 2].map(|()| stops_after(args, after));
        assert!(times.iter().any(|took| *took < Duration::from_secs(2)), "{args:?} after {after} ms: {times:?}");
    }
}

/// Interrupts a search after so many milliseconds. How long it took to end, with a report.
fn stops_after(args: &[&str], after: u64) -> Duration {
    let child = command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(after));
    interrupt(child.id());
    let asked = Instant::now();
    let done = child.wait_with_output().unwrap();
    let took = asked.elapsed();
    // It may have come to its end before.
    assert!(matches!(done.status.code(), Some(0 | 1 | 75)), "{args:?}: {:?}", done.status);
    if done.status.code() == Some(75) && done.stdout.is_empty() {
        return took; // it had not begun to search
    }
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.code() != Some(75) || found["closed"] == false, "{found}");
    took
}

/// Interrupts the program, once it handles that: until then it ends as any program does.
fn interrupt(pid: u32) {
    const INTERRUPT: u64 = 1 << (2 - 1);
    let begin = Instant::now();
    while caught(pid).is_some_and(|signals| signals & INTERRUPT == 0) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never handles an interrupt");
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The signals that a process has handlers for, by its /proc/PID/status; `None` once it has ended.
fn caught(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).expect("a mask of signals"))
}
