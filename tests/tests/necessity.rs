//! `vmm necessity`: what each instruction of an entry path is needed for; and `--change`, by which
//! every command runs the changed image.

mod common;

use common::{fits_schema, vmm};
use serde_json::Value;

const NAIVE: &[&str] = &["necessity", "--scheme", "naive", "--scenario", "quiet", "--json"];

fn findings(document: &Value) -> &Vec<Value> {
    document["findings"].as_array().unwrap()
}

#[test]
fn each_instruction_stands_with_the_rule_that_it_upholds() {
    let done = vmm(NAIVE).exits(0).json();
    fits_schema("necessity", &done);
    let of = |instruction: &str| findings(&done).iter().find(|f| f["instruction"] == instruction).unwrap();
    assert_eq!(of("cld")["needs"][0]["rule"], "I21", "{done}");
    assert_eq!(of("push %r12")["needs"][0]["rule"], "I14", "{done}");
    // Kernel code alone runs in this scenario, so GS is never the user's.
    let swapgs = of("swapgs");
    assert!(swapgs["needs"].as_array().unwrap().is_empty() && swapgs["unknown"].as_array().unwrap().is_empty());
    assert_eq!((&done["complete"], findings(&done).len()), (&true.into(), done["of"].as_u64().unwrap() as usize));
    // What it prints shows it: the same rule, in every gear.
    for finding in findings(&done).iter().filter(|f| !f["needs"][0]["rule"].is_null()).step_by(9) {
        let need = &finding["needs"][0];
        let line = need["command"].as_str().unwrap();
        let (before, schedule) = line.strip_prefix("vmm ").unwrap().split_once(" --schedule ").unwrap();
        let args: Vec<&str> = before.split(' ').collect();
        let schedule = ["--schedule", schedule.trim_matches('\''), "--gear", "all", "--json"];
        let run = vmm(&[&args[..], &schedule].concat()).exits(1).json();
        assert_eq!(run["rows"][0]["invariant"], need["rule"], "{line}: {run}");
    }
}

#[test]
fn what_pads_the_code_is_no_instruction_of_the_path() {
    // The last label of this path is followed by NOPs, up to Xen's hypercall page.
    let done = vmm(&["necessity", "--scheme", "xen-flag", "--scenario", "shadows", "--json"]).exits(0).json();
    let named = |f: &Value| f["instruction"].as_str().unwrap().starts_with("nop");
    assert!(!findings(&done).iter().any(named), "{done}");
    let last = findings(&done).last().unwrap();
    assert!(last["place"] == "exit_iret" && !last["needs"][0]["rule"].is_null(), "{last}");
}

/// What guards only against contexts that are rare: each has a scenario that shows it.
#[test]
fn what_guards_against_rare_contexts_is_needed() {
    for (scheme, scenario, removed, rule) in [
        ("mainline", "high-stack", "mainline.check_stack+0x5", "I3"),
        ("mainline", "high-stack", "mainline.check_stack+0xa", "I3"),
        ("linus-2010-fixed", "high-stack", "linus_2010_fixed.check_stack+0xb", "I3"),
        ("linus-2010-fixed", "high-stack", "linus_2010_fixed.save+0x29", "I6"),
        ("linus-2010-fixed", "user-rsp", "linus_2010_fixed.entry+0x5", "I15"),
        ("mainline", "short-user", "mainline.from_user+0x3", "I21"),
        ("mainline", "short-user", "mainline.user_body_done+0x1", "I6"),
    ] {
        let change = format!("removed@{removed}");
        let args = ["explore", "--scheme", scheme, "--scenario", scenario, "--change", &change];
        vmm(&args).exits(1).prints(&[&format!("violation({rule}")]);
    }
}

#[test]
fn threads_change_nothing_and_shards_make_up_the_whole() {
    let whole = vmm(&[NAIVE, &["--jobs", "1"]].concat()).exits(0);
    assert_eq!(vmm(&[NAIVE, &["--jobs", "3"]].concat()).exits(0).stdout, whole.stdout);
    let shards = ["0/2", "1/2"].map(|shard| vmm(&[NAIVE, &["--shard", shard]].concat()).exits(0).json());
    let mut together: Vec<Value> = shards.iter().flat_map(|d| findings(d).clone()).collect();
    together.sort_by_key(|f| f["address"].as_u64());
    assert_eq!(&together, findings(&whole.json()));
}

#[test]
fn folders_are_resumed_and_put_together_to_the_bytes_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let whole = vmm(NAIVE).exits(0).stdout;
    let folders = ["0/2", "1/2"].map(|shard| dir.path().join(&shard[..1]).to_str().unwrap().to_owned());
    let run = |shard: &str, folder: &str| vmm(&[NAIVE, &["--shard", shard, "--out", folder]].concat());
    run("0/2", &folders[0]).exits(0);
    run("1/2", &folders[1]).exits(0);
    let merged = |folders: &[String], more: &[&str]| {
        let names: Vec<&str> = folders.iter().map(String::as_str).collect();
        vmm(&[&["merge"], &names[..], &["--json"], more].concat())
    };
    let reversed = [folders[1].clone(), folders[0].clone()];
    let all = dir.path().join("all").to_str().unwrap().to_owned();
    assert_eq!(merged(&folders, &["--out", &all]).exits(0).stdout, whole);
    assert_eq!(merged(&reversed, &[]).exits(0).stdout, whole);
    assert_eq!(vmm(&["report", &all, "--json"]).exits(0).stdout, whole);
    // A part is none of the whole, unless it is asked for.
    merged(&folders[..1], &[]).exits(1).says(&["changes are missing"]);
    assert_eq!(merged(&folders[..1], &["--partial"]).exits(0).json()["complete"], false);
    // What a kill has left is gone on from, to the same end.
    let units = dir.path().join("0/units.jsonl");
    let before = std::fs::read_to_string(&units).unwrap();
    let lines: Vec<&str> = before.lines().collect();
    std::fs::write(&units, lines[..lines.len() / 2].join("\n") + "\n{\"cut off").unwrap();
    run("0/2", &folders[0]).exits(0).says(&["units were run before", "damaged"]);
    assert_eq!(std::fs::read_to_string(&units).unwrap(), before);
    // Of something else it is not.
    let other = ["necessity", "--scheme", "naive", "--scenario", "quiet", "--what", "inverted", "--out", &folders[0]];
    vmm(&[&other[..], &["--shard", "0/2"]].concat()).exits(65).says(&["other changes", "--fresh"]);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let scheme = ["necessity", "--scheme"];
    vmm(&[&scheme[..], &["naive", "--scenario", "ud-fault"]].concat())
        .exits(2)
        .says(&["is proved in none of these scenarios", "ud-fault: it breaks as it is"]);
    vmm(&[NAIVE, &["--what", "improved"]].concat()).exits(2).says(&["improved", "removed", "inverted"]);
    vmm(&[&scheme[..], &["naive", "--scenario", "no-such"]].concat()).exits(2).says(&["no-such"]);
    // A limit leaves a scenario out, loudly.
    vmm(&[NAIVE, &["--max-states", "3"]].concat()).exits(2).says(&["not closed"]);
    let explore = ["explore", "--scheme", "naive", "--scenario", "quiet", "--change"];
    for (change, words) in [
        ("removed", "one reads removed@PLACE"),
        ("improved@naive.exit_iret", "there is no change"),
        ("removed@naive.nowhere", "nowhere"),
        ("inverted@naive.exit_iret", "cannot be inverted"),
    ] {
        vmm(&[&explore[..], &[change]].concat()).exits(2).says(&[words]);
    }
    vmm(&[&explore[..], &["removed@naive.exit_iret"]].concat()).exits(1).prints(&["violation(I4"]);
}
