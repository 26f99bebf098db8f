//! Result folders: whatever happens to a run, no result is lost, doubled or mixed up.

mod common;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{SMALL, campaign_file, command, files, vmm};

fn run(file: &Path, out: &Path, args: &[&str]) -> common::Done {
    vmm(&[&["campaign", file.to_str().unwrap(), "--out", out.to_str().unwrap()], args].concat())
}

#[test]
fn folders_have_the_same_bytes_whatever_the_threads() {
    let (dir, file) = campaign_file(SMALL);
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    run(&file, &one, &["--jobs", "1"]).exits(0);
    run(&file, &two, &["--jobs", "2", "--timings"]).exits(0);
    assert_eq!(files(&one), files(&two));
    assert!(two.join("timings.json").exists());
}

#[test]
fn shards_merge_in_any_order_to_the_bytes_of_an_undivided_run() {
    let (dir, file) = campaign_file(SMALL);
    let whole = dir.path().join("whole");
    let json = run(&file, &whole, &["--json"]).exits(0).stdout;
    let shards: Vec<String> = (0..3).map(|i| dir.path().join(format!("shard-{i}")).display().to_string()).collect();
    for (i, shard) in shards.iter().enumerate() {
        let done = run(&file, Path::new(shard), &["--shard", &format!("{i}/3"), "--json"]);
        let part = done.exits(0).json();
        assert_eq!(part["complete"], false);
        assert!(part["rows"].as_array().unwrap().iter().all(|r| r["as_expected"].is_null()));
    }
    for (n, order) in [[0, 1, 2], [2, 0, 1], [1, 2, 0]].iter().enumerate() {
        let out = dir.path().join(format!("merged-{n}"));
        let dirs: Vec<&str> = order.iter().map(|i| shards[*i].as_str()).collect();
        let merged = vmm(&[&["merge", "--json", "--out", out.to_str().unwrap()], &dirs[..]].concat()).exits(0);
        assert_eq!(merged.stdout, json);
        assert_eq!(files(&out), files(&whole));
    }
    // Not all of them, and one of them twice.
    let part = vmm(&["merge", "--json", &shards[0], &shards[1], &shards[1]]).exits(0).says(&["not complete"]).json();
    assert_eq!(part["complete"], false);
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    // Long enough to be killed in its midst.
    let (dir, file) = campaign_file(&SMALL.replace("first_every = 60", "first_every = 10"));
    let whole = dir.path().join("whole");
    run(&file, &whole, &[]).exits(0);
    let killed = dir.path().join("killed");
    let units = killed.join("units.jsonl");
    for round in 1..4 {
        let args = ["campaign", file.to_str().unwrap(), "--out", killed.to_str().unwrap()];
        let mut child = command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while fs::metadata(&units).map_or(0, |m| m.len()) < round * 20_000 && begin.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // As if the last line had been cut off by a power failure.
    let text = fs::read(&units).unwrap();
    fs::write(&units, &text[..text.len() - 7]).unwrap();
    run(&file, &killed, &[]).exits(0);
    assert_eq!(files(&killed), files(&whole));
    // A run that has nothing left to do reports the same again.
    let again = run(&file, &killed, &["--json"]).exits(0);
    assert_eq!(again.stdout, run(&file, &whole, &["--json"]).stdout);
}

#[test]
fn results_of_something_else_are_refused_or_thrown_away() {
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    run(&file, &out, &["--shard", "0/2"]).exits(0);
    run(&file, &out, &["--shard", "1/2"]).exits(65).says(&["shard 0/2", "1/2", "--fresh"]);
    fs::write(&file, SMALL.replace("60", "90")).unwrap();
    run(&file, &out, &["--shard", "0/2"]).exits(65).says(&["generates other schedules", "--fresh"]);
    run(&file, &out, &["--fresh"]).exits(0);
    // What is expected may change: the results are the same.
    fs::write(&file, SMALL.replace("60", "90").replace("(I5)", "(I6)")).unwrap();
    run(&file, &out, &[]).exits(1);
    // Another host or image, as the folder tells it.
    let header = fs::read_to_string(out.join("campaign.json")).unwrap();
    for (key, what) in [("\"image\": \"", "guest image"), ("\"kernel\": \"", "host"), ("\"program\": \"", "program")] {
        fs::write(out.join("campaign.json"), header.replace(key, &format!("{key}x"))).unwrap();
        run(&file, &out, &[]).exits(65).says(&[what, "--fresh"]);
    }
    fs::write(out.join("campaign.json"), "{").unwrap();
    run(&file, &out, &[]).exits(65).says(&["campaign.json"]);
    run(&file, &out, &["--fresh"]).exits(1);
}

#[test]
fn a_folder_with_other_files_or_a_broken_line_is_refused() {
    let (dir, file) = campaign_file(SMALL);
    run(&file, dir.path(), &[]).exits(65).says(&["other files"]);
    let out = dir.path().join("out");
    run(&file, &out, &["--shard", "0/40"]).exits(0);
    let units = out.join("units.jsonl");
    let good = fs::read_to_string(&units).unwrap();
    fs::write(&units, format!("nonsense\n{good}")).unwrap();
    run(&file, &out, &["--shard", "0/40"]).exits(65).says(&["units.jsonl:1:"]);
    fs::write(&units, good.replacen("\"unit\":0", "\"unit\":1", 1)).unwrap();
    run(&file, &out, &["--shard", "0/40"]).exits(65).says(&["unit 1 is none"]);
    vmm(&["merge", dir.path().join("no").to_str().unwrap()]).exits(65).says(&["cannot read"]);
}

#[test]
fn merging_what_does_not_belong_together_is_refused() {
    let (dir, file) = campaign_file(SMALL);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    run(&file, &a, &["--shard", "0/40"]).exits(0);
    fs::write(&file, SMALL.replace("60", "90")).unwrap();
    run(&file, &b, &["--shard", "1/40"]).exits(0);
    let merge = vmm(&["merge", a.to_str().unwrap(), b.to_str().unwrap()]).exits(65);
    merge.says(&["generates other schedules"]);
}
