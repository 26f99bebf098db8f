//! `list`, `run` and `replay`: what they print, and that all gears agree.

mod common;
use std::io::Read;
use std::process::Stdio;

use common::{command, failing_line, first_boundary, vmm};

/// After a change that is meant: `INSTA_UPDATE=always cargo test -p tests --test runs`.
#[test]
fn help_texts() {
    for page in [
        &[][..],
        &["list"],
        &["list", "boundaries"],
        &["run"],
        &["replay"],
        &["campaign"],
        &["merge"],
        &["explore"],
        &["bench"],
        &["linux"],
        &["linux", "explore"],
        &["kernel"],
        &["xen"],
        &["compare"],
        &["doctor"],
        &["init"],
        &["necessity"],
    ] {
        let help = vmm(&[page, &["--help"]].concat()).exits(0);
        let name = if page.is_empty() { "vmm".to_owned() } else { page.join("-") };
        insta::assert_snapshot!(format!("help-{name}"), help.stdout);
    }
}

#[test]
fn the_examples_of_the_help_texts_work() {
    let mut tried = 0;
    for page in [&[][..], &["list"], &["list", "boundaries"], &["run"]] {
        let help = vmm(&[page, &["--help"]].concat()).exits(0).stdout;
        let examples = help.lines().filter_map(|l| l.strip_prefix("  vmm "));
        // Those of a Linux kernel need one, and have tests of their own.
        let examples = examples.filter(|l| !l.contains("--kernel"));
        for line in examples.filter(|l| l.starts_with("run") || l.starts_with("list")) {
            // The explanation beside a command is two blanks or more away.
            let line = line.split("  ").next().unwrap();
            let (plain, quoted) = line.split_once('\'').map_or((line, None), |(p, q)| (p, q.split_once('\'')));
            let mut args: Vec<&str> = plain.split_whitespace().collect();
            if let Some((schedule, rest)) = quoted {
                args.push(schedule);
                args.extend(rest.split_whitespace());
            }
            let done = vmm(&args);
            assert!([0, 1].contains(&done.code), "vmm {line}: {}", done.stderr);
            tried += 1;
        }
    }
    assert!(tried >= 8, "{tried}");
}

#[test]
fn schemes_that_are_broken_on_purpose_are_listed_only_when_asked_for() {
    let names = |args: &[&str]| -> Vec<(String, bool)> {
        let list = vmm(args).exits(0).json();
        let list = list["schemes"].as_array().unwrap();
        list.iter().map(|s| (s["scheme"].as_str().unwrap().to_owned(), s["broken"].is_null())).collect()
    };
    let some = names(&["list", "schemes", "--json"]);
    let all = names(&["list", "schemes", "--all", "--json"]);
    assert!(some.iter().all(|(_, sound)| *sound) && all.len() > some.len());
    for name in ["naive", "linus-2010", "linus-2010-fixed", "xen-flag"] {
        assert!(some.iter().any(|(s, _)| s == name), "{name}");
    }
    vmm(&["list", "scenarios"]).exits(0);
}

#[test]
fn every_listed_boundary_can_be_named_and_reached() {
    let target = ["--scheme", "naive", "--scenario", "vmalloc-fault"];
    let list = vmm(&[&["list", "boundaries"], &target[..], &["--json"]].concat()).exits(0).json();
    let list = list["boundaries"].as_array().unwrap();
    let golden = list.iter().filter(|b| b["path"] == "golden").step_by(40);
    for b in golden {
        let schedule = format!("nmi@{}#{}", b["place"].as_str().unwrap(), b["visits"]);
        vmm(&[&["run"], &target[..], &["--schedule", &schedule]].concat()).exits(0);
        let by_address = format!("nmi@{}#1", b["address"].as_str().unwrap());
        vmm(&[&["run"], &target[..], &["--schedule", &by_address]].concat()).exits(0);
    }
    // The scheme's own code is entered masked; the body's fault has unmasked its end.
    let of = |place: &str| list.iter().find(|b| b["place"] == place).unwrap_or_else(|| panic!("{place}"));
    assert_eq!((of("entry")["masked"].as_str(), of("exit_iret")["masked"].as_str()), (Some("yes"), Some("no")));
    assert_eq!((&of("entry")["path"], of("exit_iret")["instruction"].as_str()), (&"nmi".into(), Some("iretq")));
}

#[test]
fn boundaries_along_a_schedule() {
    let nmi = format!("nmi@{}", first_boundary("naive", "quiet"));
    let target = ["list", "boundaries", "--scheme", "naive", "--scenario", "quiet"];
    let text = vmm(&[&target[..], &["--path", &nmi]].concat()).exits(0).stdout;
    assert!(text.contains("exit_iret") && text.contains("This path's verdict: pass."), "{text}");
}

#[test]
fn a_replay_line_reproduces_its_failure_in_every_gear() {
    let line = failing_line();
    for gear in ["arm", "step", "jump", "all"] {
        let run = vmm(&["replay", &line, "--gear", gear, "--json"]).exits(1).json();
        let row = &run["rows"][0];
        assert_eq!(row["replay"].as_str(), Some(line.as_str()));
        assert_eq!(row["verdict"], "violation");
    }
    // As it was printed: with the command, with quotes, or unquoted.
    vmm(&["replay", &format!("vmm replay '{line}'")]).exits(1);
    let words: Vec<&str> = line.split(' ').collect();
    vmm(&[&["replay"], &words[..]].concat()).exits(1);
}

#[test]
fn a_failure_prints_the_line_that_replays_it() {
    let line = failing_line();
    let text = vmm(&["replay", &line]).exits(1).stdout;
    assert!(text.contains(&format!("vmm replay '{line}'")), "{text}");
}

#[test]
fn the_golden_run_passes_in_every_gear() {
    for scheme in ["naive", "xen-flag"] {
        vmm(&["run", "--scheme", scheme, "--scenario", "quiet", "--gear", "all"]).exits(0);
    }
}

#[test]
fn a_knob_is_part_of_the_replay_line() {
    let args = ["run", "--scheme", "naive", "--scenario", "quiet", "--faulting-iret", "keeps", "--json"];
    let run = vmm(&args).exits(0).json();
    let line = run["rows"][0]["replay"].as_str().unwrap();
    assert!(line.ends_with(" faulting-iret=keeps"), "{line}");
    assert_eq!(vmm(&["replay", line, "--json"]).exits(0).json()["rows"][0]["replay"].as_str(), Some(line));
}

#[test]
fn a_trace_shows_every_instruction_and_every_event() {
    let line = failing_line();
    let text = vmm(&["replay", &line, "--trace"]).exits(1).stdout;
    for part in ["STEP B", "an NMI arrives", "the NMI is delivered: entry begins", "#PF is raised", "exit_iret#1"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let json = vmm(&["replay", &line, "--trace", "--json"]).exits(1).json();
    let steps = json["trace"].as_array().unwrap();
    let numbers: Vec<u64> = steps.iter().filter_map(|s| s["number"].as_u64()).collect();
    assert!(numbers.len() > 100 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    let instructions = steps.iter().filter(|s| s["kind"] == "instruction");
    assert!(instructions.clone().any(|s| s["depth"] == 2) && instructions.clone().any(|s| s["bodies"] == 1));
}

#[test]
fn the_json_document_has_what_docs_json_md_says() {
    let json = vmm(&["replay", &failing_line(), "--json"]).exits(1).json();
    common::check_document(&json);
    assert!(json.get("campaign").is_none() && json.get("trace").is_none());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let target = ["list", "boundaries", "--scheme", "naive", "--scenario", "quiet"];
    let mut child = command().args(target).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
