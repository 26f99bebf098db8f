//! Result folders: whatever happens to a run, no result is lost, doubled or mixed up.

mod common;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{SMALL, campaign_file, command, files, gcc, vmm};

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
    let some = ["merge", "--json", &shards[0], &shards[1], &shards[1]];
    let part = vmm(&some).exits(1).says(&["not complete", "missing in naive / quiet", "--partial"]).json();
    assert_eq!(part["complete"], false);
    assert!(
        part["units"]["run"].as_u64() < part["units"]["of"].as_u64() && part["rows"][0]["missing"].as_u64() > Some(0)
    );
    let text = vmm(&[&some[..1], &some[2..]].concat()).exits(1).stdout;
    assert!(text.lines().last().unwrap().contains("NOT COMPLETE"), "{text}");
    let ktap = vmm(&[&some[..1], &some[2..], &["--format", "ktap"]].concat()).exits(1).stdout;
    assert!(ktap.contains("not ok 5 vmm / complete") && ktap.ends_with("not ok 1 small\n"), "{ktap}");
    vmm(&[&some[..], &["--partial"]].concat()).exits(0).says(&["not complete"]);
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    // Long enough to be killed in its midst.
    let (dir, file) = campaign_file(&SMALL.replace("first_every = 120", "first_every = 30"));
    let whole = dir.path().join("whole");
    run(&file, &whole, &[]).exits(0);
    let quarter = fs::metadata(whole.join("units.jsonl")).unwrap().len() / 4;
    let killed = dir.path().join("killed");
    let units = killed.join("units.jsonl");
    for round in 1..4 {
        let args = ["campaign", file.to_str().unwrap(), "--out", killed.to_str().unwrap()];
        let mut child = command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while fs::metadata(&units).map_or(0, |m| m.len()) < round * quarter {
            assert!(begin.elapsed() < Duration::from_secs(60), "a quarter of the units takes longer than all");
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

/// A header with the checksum of what it says.
fn sealed(header: &str) -> String {
    const BEFORE: &str = "\"checksum\": \"";
    let at = header.rfind(BEFORE).unwrap() + BEFORE.len();
    let (before, after) = (&header[..at], &header[at + 16..]);
    let sum = xxhash_rust::xxh3::xxh3_64(format!("{before}{:016}{after}", 0).as_bytes());
    format!("{before}{sum:016x}{after}")
}

#[test]
fn results_of_something_else_are_refused_or_thrown_away() {
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    run(&file, &out, &["--shard", "0/2"]).exits(0);
    run(&file, &out, &["--shard", "1/2"]).exits(65).says(&["shard 0/2", "1/2", "--fresh"]);
    fs::write(&file, SMALL.replace("120", "90")).unwrap();
    run(&file, &out, &["--shard", "0/2"]).exits(65).says(&["generates other schedules", "--fresh"]);
    run(&file, &out, &["--fresh"]).exits(0);
    // What is expected may change: the results are the same.
    fs::write(&file, SMALL.replace("120", "90").replace("(I5)", "(I6)")).unwrap();
    run(&file, &out, &[]).exits(1);
    // Another host or image, as the folder tells it.
    let header = fs::read_to_string(out.join("campaign.json")).unwrap();
    for (key, what) in [("\"image\": \"", "guest image"), ("\"kernel\": \"", "host"), ("\"program\": \"", "program")] {
        fs::write(out.join("campaign.json"), sealed(&header.replace(key, &format!("{key}x")))).unwrap();
        run(&file, &out, &[]).exits(65).says(&[what, "--fresh"]);
    }
    fs::write(out.join("campaign.json"), "{").unwrap();
    run(&file, &out, &[]).exits(65).says(&["campaign.json"]);
    run(&file, &out, &["--fresh"]).exits(1);
}

#[test]
fn a_folder_with_other_files_is_refused_and_a_damaged_record_is_run_again() {
    let (dir, file) = campaign_file(SMALL);
    run(&file, dir.path(), &[]).exits(65).says(&["other files"]);
    let out = dir.path().join("out");
    run(&file, &out, &["--shard", "0/40"]).exits(0);
    let units = out.join("units.jsonl");
    let good = fs::read_to_string(&units).unwrap();
    fs::write(&units, format!("nonsense\n{good}")).unwrap();
    vmm(&["report", "--partial", out.to_str().unwrap()]).exits(0).says(&["units.jsonl:1:", "damaged"]);
    run(&file, &out, &["--shard", "0/40"]).exits(0).says(&["units.jsonl:1:", "damaged"]);
    assert_eq!(fs::read_to_string(&units).unwrap(), good);
    fs::write(&units, good.replacen("\"unit\":0", "\"unit\":1", 1)).unwrap();
    run(&file, &out, &["--shard", "0/40"]).exits(0).says(&["units.jsonl:1:", "damaged"]);
    assert_eq!(fs::read_to_string(&units).unwrap(), good, "what was damaged was run again");
    vmm(&["merge", dir.path().join("no").to_str().unwrap()]).exits(65).says(&["cannot read"]);
}

#[test]
fn merging_what_does_not_belong_together_is_refused() {
    let (dir, file) = campaign_file(SMALL);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    run(&file, &a, &["--shard", "0/40"]).exits(0);
    fs::write(&file, SMALL.replace("120", "90")).unwrap();
    run(&file, &b, &["--shard", "1/40"]).exits(0);
    let merge = vmm(&["merge", a.to_str().unwrap(), b.to_str().unwrap()]).exits(65);
    merge.says(&["generates other schedules"]);
}

#[test]
fn a_row_without_cases_has_no_verdict() {
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    let shard = run(&file, &out, &["--shard", "0/4000"]).exits(0).stdout;
    assert!(shard.lines().last().unwrap().contains("shard 0/4000 only: not complete"), "{shard}");
    let part = vmm(&["report", out.to_str().unwrap(), "--json"]).exits(1).json();
    let empty: Vec<_> = part["rows"].as_array().unwrap().iter().filter(|r| r["cases"] == 0).collect();
    assert!(!empty.is_empty());
    for row in empty {
        assert_eq!((&row["verdict"], &row["as_expected"]), (&"no-cases".into(), &serde_json::Value::Null), "{row:#}");
    }
    assert!(part["summary"]["no_cases"].as_u64() > Some(0));
}

#[test]
fn a_changed_bit_is_never_a_changed_result() {
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    let whole = run(&file, &out, &["--json"]).exits(0).stdout;
    let name = out.to_str().unwrap();
    for (of, step) in [("units.jsonl", 997), ("campaign.json", 131), ("finished.json", 3)] {
        let path = out.join(of);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by((good.len() / 14).max(step)) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let done = vmm(&["report", name, "--json"]);
            let same = done.stdout == whole;
            assert!(same || done.code == 65 || done.code == 1 && done.stderr.contains("damaged"), "{of}, byte {at}");
            assert!(of == "campaign.json" || !done.stderr.is_empty(), "{of}, byte {at}: nothing was said");
        }
        fs::write(&path, &good).unwrap();
    }
    // What was damaged is run again, to the same bytes.
    let units = out.join("units.jsonl");
    let good = fs::read(&units).unwrap();
    let mut bytes = good.clone();
    bytes[good.len() / 2] ^= 4;
    fs::write(&units, bytes).unwrap();
    run(&file, &out, &[]).exits(0).says(&["damaged"]);
    assert_eq!(fs::read(&units).unwrap(), good);
    assert_eq!(vmm(&["report", name, "--json"]).exits(0).stdout, whole);
}

#[test]
fn a_finished_folder_that_nobody_may_write_to_can_be_reported() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    let whole = run(&file, &out, &["--json"]).exits(0).stdout;
    let before = files(&out);
    fs::set_permissions(&out, fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(vmm(&["report", out.to_str().unwrap(), "--json"]).exits(0).stdout, whole);
    assert_eq!(files(&out), before);
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_old_format_is_refused_by_its_version() {
    let (dir, file) = campaign_file(SMALL);
    let out = dir.path().join("out");
    run(&file, &out, &["--shard", "0/40"]).exits(0);
    let header = fs::read_to_string(out.join("campaign.json")).unwrap();
    fs::write(out.join("campaign.json"), header.replacen("\"format\": 5", "\"format\": 4", 1)).unwrap();
    run(&file, &out, &["--shard", "0/40"]).exits(65).says(&["format 4", "format 5"]);
    vmm(&["report", out.to_str().unwrap()]).exits(65).says(&["format 4", "format 5"]);
    run(&file, &out, &["--shard", "0/40", "--fresh"]).exits(0);
}

/// What a guest declares decides its verdicts as its code does: results and replay lines made under
/// other declarations are about another image.
#[test]
fn the_notes_are_part_of_the_image() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/proof");
    let text = std::fs::read_to_string(sources.join("guest.S")).unwrap();
    let build = |name: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let (source, elf) = (dir.path().join(name).with_extension("S"), dir.path().join(name));
        std::fs::write(&source, text.replace(from, to)).unwrap();
        let include = [sources.clone(), gcc::examples().join("include")].map(|dir| format!("-I{}", dir.display()));
        let script = format!("-Wl,-T,{}", sources.join("guest.ld").display());
        let flags = ["-DNESTED", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack"];
        let mut gcc = std::process::Command::new("gcc");
        gcc::must(gcc.args(flags).args(include).args(["-Wl,--defsym=HIGH=0", &script, "-o"]).arg(&elf).arg(source));
        elf.to_str().unwrap().to_owned()
    };
    let plain = build("plain", "idle=nmi_state:4", "idle=nmi_state:4");
    let others = [
        build("idle", "idle=nmi_state:4 ", ""),
        build("repeat", "repeat=kind.restart ", ""),
        build("faults", "idle=nmi_state:4", "idle=nmi_state:4 faults=gp@kind.exit_iret"),
    ];
    let (file, out) = (dir.path().join("points.toml"), dir.path().join("out"));
    std::fs::write(&file, "name = \"p\"\nschemes = [\"kind\"]\nscenarios = [\"sum\"]\ngenerate = \"points\"\n")
        .unwrap();
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    vmm(&["campaign", file, "--guest", &plain, "--out", out]).exits(0);
    let run = ["run", "--guest", &plain, "--scheme", "kind", "--scenario", "sum", "--schedule", "nmi@work.a", "--json"];
    let line = vmm(&run).exits(0).json()["rows"][0]["replay"].as_str().unwrap().to_owned();
    vmm(&["replay", "--guest", &plain, &line]).exits(0);
    for other in others {
        vmm(&["replay", "--guest", &other, &line]).exits(65).says(&["this line is about guest image"]);
        vmm(&["campaign", file, "--guest", &other, "--out", out]).exits(65).says(&["guest image"]);
    }
}
