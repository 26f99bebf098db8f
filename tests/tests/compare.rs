//! `vmm compare`: figures by counting, with the reason where there is none.

mod common;

use common::vmm;
use serde_json::Value;

const COSTS: [&str; 5] = ["compare", "--max-states", "0", "--rounds", "0"];

fn compare(rest: &[&str]) -> common::Done {
    vmm(&[&COSTS[..], rest].concat()).exits(0)
}

fn row<'a>(document: &'a Value, scheme: &str, scenario: &str) -> &'a Value {
    let found =
        document["rows"].as_array().unwrap().iter().find(|r| r["scheme"] == scheme && r["scenario"] == scenario);
    found.unwrap_or_else(|| panic!("no row {scheme} / {scenario}"))
}

#[test]
fn nested_nmis_are_counted_at_every_sample() {
    let args = ["--schemes", "naive,linus-2010,mainline,xen-flag", "--scenario", "quiet,vmalloc-fault", "--json"];
    let text = compare(&args).stdout;
    assert_eq!(text, compare(&args).stdout, "the same bytes in every run");
    let document: Value = serde_json::from_str(&text).unwrap();
    let counts = |scheme, scenario| row(&document, scheme, scenario)["counts"].clone();
    for scheme in ["naive", "mainline", "xen-flag"] {
        for scenario in ["quiet", "vmalloc-fault"] {
            let c = counts(scheme, scenario);
            assert_eq!((&c["samples"], &c["broken"]), (&12.into(), &0.into()), "{scheme} {scenario}");
        }
    }
    // A fault's return opens NMIs to the end of the handler: dozens of boundaries a sample.
    assert!(counts("mainline", "vmalloc-fault")["nested_cases"].as_u64() > Some(200));
    assert!(counts("mainline", "vmalloc-fault")["nested"]["min"].as_u64() > Some(10));
    let naive = counts("naive", "vmalloc-fault");
    assert_eq!((&naive["nested_broken"], &naive["nested_breaks"]), (&naive["nested_cases"], &"I5".into()));
    let linus = counts("linus-2010", "vmalloc-fault");
    assert!(linus["broken"].as_u64() > Some(0), "an NMI alone breaks a rule: {linus:#}");
    assert_eq!(linus["breaks"], "I6");
    assert_eq!(counts("xen-flag", "vmalloc-fault")["nested_cases"], 0);
}

#[test]
fn a_figure_that_is_missing_says_why() {
    let text = compare(&["--schemes", "naive,xen-flag,broken-i6", "--scenario", "vmalloc-fault"]).stdout;
    let cells = |scheme: &str| -> Vec<String> {
        let line =
            text.lines().find(|l| l.contains(&format!(" {scheme} "))).unwrap_or_else(|| panic!("{scheme}:\n{text}"));
        line.split(['│', '┆']).map(|c| c.trim().to_owned()).collect()
    };
    assert_eq!(cells("naive")[4..6], ["broken (I5)", "broken (I5)"]);
    assert_eq!(cells("xen-flag")[4..6], ["never", "never"]);
    assert_eq!(cells("broken-i6")[3], "broken (I6)", "no first NMI comes back whole");
}

#[test]
fn schemes_that_cannot_do_a_scenario_are_left_out_unless_they_are_named() {
    let document = compare(&["--scenario", "user", "--json"]).json();
    let schemes: Vec<_> = document["rows"].as_array().unwrap().iter().map(|r| r["scheme"].as_str().unwrap()).collect();
    assert!(schemes.contains(&"xen-flag") && schemes.contains(&"fred"), "{schemes:?}");
}

#[test]
fn what_does_not_survive_has_failed_as_a_test() {
    let args = ["--schemes", "naive,linus-2010", "--scenario", "vmalloc-fault", "--format", "ktap"];
    let ktap = compare(&args).stdout;
    assert!(ktap.contains("1..2") && ktap.contains("ok 1 naive / vmalloc-fault (native): points"), "{ktap}");
    assert!(ktap.contains("# violation(I6) instead of pass") && ktap.contains("not ok 2 linus-2010 /"), "{ktap}");
    assert!(ktap.lines().last().is_some_and(|l| l == "not ok 1 vmm compare"), "{ktap}");
    let searched = ["compare", "--schemes", "naive", "--scenario", "quiet", "--max-states", "9", "--rounds", "0"];
    let junit = vmm(&[&searched[..], &["--format", "junit"]].concat()).exits(0).stdout;
    assert!(junit.contains("tests=\"2\" failures=\"0\" skipped=\"1\"") && junit.contains("its limit"), "{junit}");
}
