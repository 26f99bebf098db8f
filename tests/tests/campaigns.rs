//! Campaigns: the same file gives the same bytes, whatever the threads, the order and
//! the company of its cases; and the verdicts expected decide the exit code.

mod common;
use common::{SMALL, campaign, campaign_file, check_document, vmm};
use serde_json::Value;

#[test]
fn the_same_campaign_gives_the_same_bytes_whatever_the_threads() {
    let runs: Vec<String> =
        ["1", "1", "2", "3"].iter().map(|jobs| campaign(SMALL, &["--json", "--jobs", jobs]).exits(0).stdout).collect();
    assert!(runs.iter().all(|r| *r == runs[0]));
    let json: Value = serde_json::from_str(&runs[0]).unwrap();
    check_document(&json);
    assert_eq!((json["complete"].as_bool(), json["summary"]["expected"].as_u64()), (Some(true), Some(4)));
    assert!(json["summary"]["rechecked"].as_u64().unwrap() > 0);
    assert_eq!(json["summary"]["disagreed"], 0);
}

#[test]
fn every_failure_of_a_campaign_replays_to_the_same_verdict() {
    let json = campaign(SMALL, &["--json"]).exits(0).json();
    let failures = json["rows"].as_array().unwrap().iter().flat_map(|r| r["failures"].as_array().unwrap());
    let mut count = 0;
    for failure in failures {
        let again = vmm(&["replay", failure["replay"].as_str().unwrap(), "--gear", "all", "--json"]).exits(1).json();
        for key in ["verdict", "invariant", "detail"] {
            assert_eq!(again["rows"][0][key], failure[key]);
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_case_comes_out_the_same_first_last_or_twice() {
    let nested = "nmi@body#1";
    let first = common::first_boundary("naive", "vmalloc-fault");
    let fails = format!("nmi@{first} nmi@exit_iret#1");
    let passes = format!("nmi@{first}");
    let verdicts = |list: &[&str]| -> Vec<(Value, Value)> {
        let each = list.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "name = 'order'\nschemes = ['naive']\nscenarios = ['vmalloc-fault']\ngenerate = {{ schedules = [{each}] }}\n"
        );
        let (dir, path) = campaign_file(&text);
        let out = dir.path().join("out");
        vmm(&["campaign", path.to_str().unwrap(), "--jobs", "1", "--out", out.to_str().unwrap()]);
        let units = std::fs::read_to_string(out.join("units.jsonl")).unwrap();
        let unit = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        units.lines().map(unit).map(|u| (u["counts"].clone(), u["failures"][0]["detail"].clone())).collect()
    };
    let with = |second: &str| format!("{passes} {second}");
    let other = with(nested);
    let results = verdicts(&[&fails, &passes, &other, &fails, &passes, &fails]);
    assert_eq!((&results[0], &results[0]), (&results[3], &results[5]));
    assert_eq!(results[1], results[4]);
    assert_ne!(results[0], results[1]);
    assert_eq!(verdicts(&[&passes, &fails]), [results[1].clone(), results[0].clone()]);
}

#[test]
fn expectations_decide_the_exit_code() {
    campaign(SMALL, &[]).exits(0);
    let wrong = campaign(&SMALL.replace("violation(I5)", "violation(I9)"), &[]).exits(1);
    assert!(wrong.stdout.contains("✗ expected violation(I9)") && wrong.stdout.contains("3 as expected, 1 not"));
    campaign(&SMALL.replace("violation(I5)", "violation"), &[]).exits(0);
    campaign(&SMALL.replace("vmalloc-fault = \"violation(I5)\"", ""), &[]).exits(1);
    campaign(&SMALL.replace("vmalloc-fault = \"violation(I5)\"", "\"*\" = \"violation\""), &[]).exits(1);
}

#[test]
fn points_pairs_and_depth_nest() {
    let with = |generate: &str| {
        let text = SMALL.replace("\"pairs\"", generate).replace("first_every = 120", "first_every = 100");
        campaign(&text, &["--json"]).json()
    };
    let cases = |d: &Value| d["summary"]["cases"].as_u64().unwrap();
    let (points, pairs) = (with("\"points\""), with("\"pairs\""));
    assert_eq!(cases(&points), 4 * 3, "{points:#}");
    assert!(cases(&pairs) > 100 * cases(&points));
    assert_eq!(pairs, with("{ depth = 2 }"));
    // One NMI never breaks naive; two do.
    let naive = |d: &Value| d["rows"][1]["verdict"].as_str().unwrap().to_owned();
    assert_eq!((naive(&points), naive(&pairs)), ("pass".into(), "violation".into()));
}

#[test]
fn a_window_restricts_where_later_nmis_arrive() {
    let text = SMALL.replace("first_every = 120", "first_every = 60\naround = [\"exit_iret\"]");
    let json = campaign(&text, &["--json"]).exits(1).json();
    let naive = &json["rows"][1];
    let schedule = naive["schedule"].as_str().unwrap();
    assert!(schedule.ends_with(" nmi@exit_iret#1"), "{schedule}");
    // The second NMI's frame lies where the iret finds the first one's.
    assert_eq!(naive["invariant"], "I8", "{naive:#}");
}

#[test]
fn random_schedules_are_the_same_for_the_same_seed() {
    let with = |seed: u64| {
        let generate = format!("{{ random = {{ count = 200, seed = {seed}, max_nmis = 3 }} }}");
        let text = SMALL.replace("\"pairs\"", &generate).replace("[window]\nfirst_every = 120\n", "");
        campaign(&text.replace("violation(I5)", "violation"), &["--json"])
    };
    let (one, two) = (with(1).exits(0), with(2).exits(0));
    assert_eq!(one.stdout, with(1).stdout);
    assert_ne!(one.json()["rows"][1]["failures"], two.json()["rows"][1]["failures"]);
    assert_eq!(one.json()["summary"]["cases"], 800);
}

#[test]
fn the_report_of_a_campaign_has_a_replay_line_for_every_failure() {
    let text = campaign(SMALL, &[]).exits(0).stdout;
    assert!(text.contains("4 as expected, 0 not") && text.contains("violation(I5)"), "{text}");
    assert!(text.contains("vmm replay 'naive/vmalloc-fault/native@"), "{text}");
}

#[test]
fn junit_and_timings_are_written_where_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let junit = dir.path().join("junit.xml");
    let wrong = SMALL.replace("violation(I5)", "shutdown");
    let run = campaign(&wrong, &["--junit", junit.to_str().unwrap(), "--json", "--timings"]).exits(1).json();
    assert_eq!(run["timings"].as_array().unwrap().len(), 4);
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.contains("tests=\"4\" failures=\"1\"") && xml.contains("vmm replay '"));
}
