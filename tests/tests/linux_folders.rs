//! Result folders of a kernel's sweeps: whatever happens to a run, and however it is divided, the
//! bytes are those of one undisturbed run. Needs the kernel of `scripts/linux/build-test-kernel`;
//! without it these tests are ignored, and say so (build.rs).

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Done, command, files, vmm};

const KERNEL: &str = env!("LINUX_TEST_KERNEL");

/// A sweep with livelocks, violations and a defect among its cases. One of them comes to its end after
/// some 25 ms of CPU time, which is what a case has by default of which nothing is expected.
const SWEEP: [&str; 12] = [
    "--sweep",
    "--site",
    "user",
    "--site",
    "",
    "--part",
    "second",
    "--mutate",
    "nmi_restore+0x1b=90",
    "--case-limit",
    "600",
    "--json",
];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["linux", "--kernel", KERNEL, "--ram", "64"], &SWEEP[..], more].concat()
}

fn run(out: &Path, more: &[&str]) -> Done {
    vmm(&[&args(more)[..], &["--out", out.to_str().unwrap()]].concat())
}

/// JSON without what is never the same twice.
fn timeless(done: &Done) -> serde_json::Value {
    let mut json = done.json();
    for sweep in json["sweeps"].as_array_mut().unwrap() {
        sweep.as_object_mut().unwrap().remove("seconds");
    }
    json
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn threads_shards_and_kills_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let whole = run(&path("one"), &["--jobs", "1"]).exits(1);
    let json = timeless(&whole);
    common::fits_schema("linux", &whole.json());
    assert_eq!((&json["complete"], &json["summary"]["defects"]), (&true.into(), &1.into()));
    assert!(json["summary"]["cases"].as_u64() > Some(1000));

    // On two threads, and without a folder.
    assert_eq!(timeless(&run(&path("two"), &["--jobs", "2"]).exits(1)), json);
    assert_eq!(files(&path("two")), files(&path("one")));
    assert_eq!(timeless(&vmm(&args(&["--jobs", "2"])).exits(1)), json);

    // In three parts, put together in any order.
    let shards: Vec<String> = (0..3).map(|i| path(&format!("shard-{i}")).display().to_string()).collect();
    let parts: Vec<u64> = shards
        .iter()
        .enumerate()
        .map(|(i, shard)| {
            let done = run(Path::new(shard), &["--shard", &format!("{i}/3")]);
            assert_eq!(done.json()["complete"], false);
            done.json()["summary"]["cases"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(Some(parts.iter().sum()), json["summary"]["cases"].as_u64(), "{parts:?}");
    for (n, order) in [[0, 1, 2], [2, 0, 1]].iter().enumerate() {
        let out = path(&format!("merged-{n}"));
        let dirs: Vec<&str> = order.iter().map(|i| shards[*i].as_str()).collect();
        let merged = vmm(&[&["merge", "--json", "--out", out.to_str().unwrap()], &dirs[..]].concat()).exits(1);
        assert_eq!(merged.json(), json);
        assert_eq!(files(&out), files(&path("one")));
    }
    let part = vmm(&["merge", "--json", &shards[0], &shards[1]]).exits(1).says(&["not complete", "--partial"]);
    assert_eq!(part.json()["complete"], false);

    // Killed in its midst, twice; the last line is then cut off, as by a power failure.
    let killed = path("killed");
    let units = killed.join("units.jsonl");
    let third = fs::metadata(path("one").join("units.jsonl")).unwrap().len() / 3;
    for round in 1..3 {
        let out = ["--out", killed.to_str().unwrap()];
        let mut child = command();
        let child = child.args(args(&out)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        let begin = Instant::now();
        while fs::metadata(&units).map_or(0, |m| m.len()) < round * third {
            assert!(begin.elapsed() < Duration::from_secs(120), "a third of the units takes longer than all");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let text = fs::read(&units).unwrap();
    fs::write(&units, &text[..text.len() - 7]).unwrap();
    run(&killed, &[]).exits(1).says(&["damaged"]);
    assert_eq!(files(&killed), files(&path("one")));
    assert_eq!(timeless(&run(&killed, &[]).exits(1)), json, "where nothing is left to run");
    let report = vmm(&["report", killed.to_str().unwrap(), "--json"]).exits(1);
    assert_eq!(report.json(), json);
    common::fits_schema("linux", &report.json());
    let text = vmm(&["report", killed.to_str().unwrap()]).exits(1).stdout;
    assert!(text.contains("DEFECT livelock") && text.contains("1 defects"), "{text}");
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn results_of_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let sweep = |more: &[&str]| {
        let base = ["linux", "--kernel", KERNEL, "--ram", "64", "--sweep", "--part", "second", "--out", out];
        vmm(&[&base, more].concat())
    };
    sweep(&["--shard", "0/9"]).exits(0);
    sweep(&["--shard", "1/9"]).exits(65).says(&["shard 0/9", "1/9", "--fresh"]);
    sweep(&["--shard", "0/9", "--site", "user"]).exits(65).says(&["other sites", "--fresh"]);
    sweep(&["--shard", "0/9", "--mutate", "nmi_restore+0x1b=90"]).exits(65).says(&["changes of the kernel", "--fresh"]);
    sweep(&["--shard", "0/9", "--case-limit", "300"]).exits(65).says(&["case limit of 250", "--fresh"]);
    sweep(&["--shard", "1/9", "--fresh"]).exits(0);
    // A folder of the lab's own guests is none of a kernel, and the other way round.
    let (campaigns, file) = common::campaign_file(common::SMALL);
    vmm(&["campaign", file.to_str().unwrap(), "--out", out]).exits(65).says(&["of a kernel, and not of a guest"]);
    let guests = campaigns.path().join("guests");
    vmm(&["campaign", file.to_str().unwrap(), "--shard", "0/40", "--out", guests.to_str().unwrap()]).exits(0);
    vmm(&["merge", out, guests.to_str().unwrap()]).exits(65).says(&["of a guest, and not of a kernel"]);
    vmm(&["linux", "--kernel", KERNEL, "--schedule", "nmi@user", "--jobs", "2"]).exits(2).says(&["--jobs", "sweeps"]);
}
