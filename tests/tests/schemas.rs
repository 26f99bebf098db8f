//! The published schemas of every command's JSON (docs/schemas) fit what the commands print.

mod common;
use std::collections::BTreeSet;
use std::path::Path;

use common::{SMALL, campaign, failing_line, first_boundary, fits_schema, schema, vmm};

#[test]
fn what_commands_print_fits_its_schema() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let check = |name: &str, done: &common::Done| {
        fits_schema(name, &done.json());
    };
    let line = failing_line();
    check("run", &vmm(&["replay", &line, "--trace", "--json"]).exits(1));
    check("run", &vmm(&["replay", &line, "--trace=events", "--gear", "step", "--json"]).exits(1));
    let small = campaign(SMALL, &["--json", "--timings"]).exits(0);
    check("run", &small);
    check("explain", &vmm(&["explain", &line, "--json"]).exits(1));
    check("schemes", &vmm(&["list", "schemes", "--all", "--json"]).exits(0));
    check("scenarios", &vmm(&["list", "scenarios", "--json"]).exits(0));
    let naive = ["--scheme", "naive", "--scenario", "quiet", "--json"];
    check("boundaries", &vmm(&[&["list", "boundaries"], &naive[..]].concat()).exits(0));
    check("explore", &vmm(&[&["explore"], &naive[..]].concat()).exits(0));
    let compare = ["compare", "--schemes", "naive,xen-flag", "--scenario", "quiet", "--max-states", "0", "--rounds"];
    check("compare", &vmm(&[&compare[..], &["5", "--json"]].concat()).exits(0));
    let probed = vmm(&["probe", "--json"]).exits(0);
    check("probe", &probed);
    check("probe-model", &vmm(&["probe", "--model", "--cases", "2", "--json"]).exits(0));
    let probed = keep("probe.json", &probed.stdout);
    check("probe-compare", &vmm(&["probe", "--compare", &probed, &probed, "--json"]).exits(0));
    check("doctor", &vmm(&["doctor", "--json"]).exits(0));
    let small = keep("small.json", &small.stdout);
    check("agree", &vmm(&["agree", &small, &small, "--json"]).exits(0));
}

#[test]
fn every_schema_is_one_and_refuses_what_it_does_not_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let names: BTreeSet<String> = files.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 16, "{names:?}");
    for name in &names {
        let schema = schema(name);
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}: a key that is not described is refused");
    }
    let place = first_boundary("naive", "quiet");
    let run = ["run", "--scheme", "naive", "--scenario", "quiet", "--schedule", &format!("nmi@{place}"), "--json"];
    let mut document = vmm(&run).exits(0).json();
    let run = jsonschema::validator_for(&schema("run")).unwrap();
    assert!(run.is_valid(&document));
    document["rows"][0]["surprise"] = 1.into();
    assert!(!run.is_valid(&document), "a key that nobody has described");
}
