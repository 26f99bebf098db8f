//! `vmm explain`: the story of a run, with the right sentence for the rule that broke.

mod common;
use std::collections::BTreeMap;

use common::{campaign, failing_line, vmm};
use vmm::oracle::Invariant;

/// Explains a line; returns the sentence about the rule.
#[track_caller]
fn ending(line: &str, rule: &str) {
    let told = vmm(&["explain", line]).exits(1).stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert!((4..=12).contains(&lines.len()), "{told}");
    assert!(told.contains(line), "it ends with the replay line: {told}");
    let words = rule.parse::<Invariant>().unwrap().broke();
    let end = lines[lines.len() - 2];
    assert!(end.contains(words) || rule == "I18" && end.contains("triple fault"), "{rule}: {told}");
    assert!(
        lines[1..].iter().any(|l| l.contains("NMI 1 is delivered") || l.contains("latched")) || rule == "I1",
        "{told}"
    );
}

/// The scenarios with user code, or those without, as a campaign lists them.
fn scenarios(ring3: bool) -> String {
    let list = vmm(&["list", "scenarios", "--json"]).exits(0).json();
    let list = list["scenarios"].as_array().unwrap().iter().filter(|s| s["ring3"] == ring3);
    let list = list.filter(|s| s["scenario"] != "user-ss16"); // not every host can show it
    list.map(|s| s["scenario"].to_string()).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_rule_that_a_guest_can_break_is_explained_by_its_own_sentence() {
    let list = vmm(&["list", "schemes", "--all", "--json"]).exits(0).json();
    let broken = list["schemes"].as_array().unwrap().iter().filter(|s| !s["broken"].is_null());
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    for scheme in broken {
        let (rule, name) = (scheme["broken"].as_str().unwrap(), scheme["scheme"].to_string());
        missing.entry(rule.to_owned()).or_insert(name);
    }
    let rules: Vec<String> = missing.keys().cloned().collect();
    assert_eq!(rules.len(), 17, "I1, I2 and I19 are the hypervisor's, I20 is about cases: {rules:?}");
    // What is quick to find first; the rest needs more places, or a second NMI, or user code.
    let (few, kernel, user) = ("\"quiet\", \"vmalloc-fault\"".to_owned(), scenarios(false), scenarios(true));
    let rounds = [
        (&few, "points", 150),
        (&few, "pairs", 150),
        (&kernel, "points", 25),
        (&user, "points", 25),
        (&kernel, "points", 1),
    ];
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for (scenarios, generate, every) in rounds {
        if missing.is_empty() {
            break;
        }
        let schemes = missing.values().cloned().collect::<Vec<_>>().join(", ");
        let text = format!(
            "name = 'all'\nschemes = [{schemes}]\nscenarios = [{scenarios}]\ngenerate = '{generate}'\n[window]\n\
             first_every = {every}\n"
        );
        let json = campaign(&text, &["--json"]).json();
        for failure in json["rows"].as_array().unwrap().iter().flat_map(|r| r["failures"].as_array().unwrap()) {
            let Some(rule) = failure["invariant"].as_str() else { continue };
            if missing.remove(rule).is_some() {
                lines.insert(rule.to_owned(), failure["replay"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(lines.keys().cloned().collect::<Vec<_>>(), rules, "a guest shows each of them");
    lines.iter().for_each(|(rule, line)| ending(line, rule));
}

#[test]
fn so_is_what_a_hypervisor_breaks() {
    let nested = "nmi@work.fold#1 nmi@entry#1";
    for (fault, scheme, scenario, schedule, rule) in [
        ("iret-keeps-blocked", "mainline", "quiet", nested, "I2"),
        ("second-nmi-lost", "mainline", "quiet", nested, "I1"),
        ("inverted-test-and-set", "xen-flag", "quiet", nested, "I1"),
        ("failed-iret-leaves-blocked", "mainline", "user-segment", "nmi@user_code.start#1", "I19"),
    ] {
        let args =
            ["run", "--scheme", scheme, "--scenario", scenario, "--fault", fault, "--schedule", schedule, "--json"];
        let json = vmm(&args).exits(1).json();
        assert_eq!(json["rows"][0]["invariant"], rule);
        ending(json["rows"][0]["replay"].as_str().unwrap(), rule);
    }
}

#[test]
fn the_frame_that_is_overwritten_is_named() {
    let told = vmm(&["explain", &failing_line()]).exits(1).stdout;
    assert!(told.contains("NMI 2 is delivered") && told.contains("overwrites the frame of NMI 1"), "{told}");
    // The one-instruction race of 2010: the copy is overwritten by the second NMI's code.
    let first = common::first_boundary("linus-2010-first", "short-ud-fault");
    let schedule = format!("nmi@{first} nmi@exit_iret#1");
    let args =
        ["run", "--scheme", "linus-2010-first", "--scenario", "short-ud-fault", "--schedule", &schedule, "--json"];
    let line = vmm(&args).exits(1).json()["rows"][0]["replay"].as_str().unwrap().to_owned();
    let told = vmm(&["explain", &line]).exits(1).stdout;
    assert!(told.contains("The code of NMI 2 overwrites the frame of NMI 1"), "{told}");
    // Entry code that survives loses no frame.
    let place = common::first_boundary("mainline", "vmalloc-fault");
    let args = ["run", "--scheme", "mainline", "--scenario", "vmalloc-fault", "--schedule"];
    let schedule = format!("nmi@{place} nmi@exit_iret#1");
    let line = vmm(&[&args[..], &[&schedule, "--json"]].concat()).exits(0).json()["rows"][0]["replay"].clone();
    let told = vmm(&["explain", line.as_str().unwrap()]).exits(0).stdout;
    assert!(!told.contains("overwrites") && told.contains("Every NMI was served"), "{told}");
}

/// Of a real kernel: the line is a command of its own.
#[test]
fn a_case_on_a_real_kernel_is_told() {
    if !common::gcc::is_there() {
        return;
    }
    let all = common::gcc::copied_examples();
    let dir = all.path().join("os");
    common::gcc::must(std::process::Command::new("make").arg("-s").current_dir(&dir));
    let line = format!("vmm kernel --image {} --schedule 'nmi@work nmi@nmi_body'", dir.join("os.elf").display());
    let page = all.path().join("story.html");
    let told = vmm(&["explain", &line, "--html", page.to_str().unwrap()]).exits(1).stdout;
    let lines: Vec<&str> = told.lines().collect();
    assert!((5..=12).contains(&lines.len()), "{told}");
    for words in
        ["livelock", "An NMI is delivered at work", "latched", "I17 (progress) breaks", "replay vmm kernel --image"]
    {
        assert!(told.contains(words), "{words:?} is missing in: {told}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("class=\"story\"") && page.contains("vmm kernel --image"), "the page tells it, too");
    let json = vmm(&["explain", &line, "--json"]).exits(1).json();
    common::fits_schema("explain", &json);
    assert_eq!((json["verdict"].as_str(), json["invariant"].as_str()), (Some("livelock"), Some("I17")));
}
