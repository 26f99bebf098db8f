//! What is too large, too deep or too many ends with a message and the exit code that says whose it
//! is; so does a host that has too little.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{VMM, campaign, campaign_file, command, vmm};

const RUN: [&str; 5] = ["run", "--scheme", "naive", "--scenario", "quiet"];

#[test]
fn too_many() {
    vmm(&["campaign", "x.toml", "--jobs", "1000"]).exits(2).says(&["1000", "256"]);
    let drawn = |schemes: &str, count: &str| {
        let text = format!(
            "name = \"x\"\nschemes = {schemes}\nscenarios = [\"quiet\"]\n\
             generate = {{ random = {{ count = {count}, seed = 1 }} }}\n"
        );
        campaign(&text, &[])
    };
    drawn("[\"naive\"]", "9000000000000").exits(65).says(&["campaign.toml:4:", "count", "1000000 is the most"]);
    drawn("[\"*\"]", "1000000").exits(65).says(&["campaign.toml:4:", "20000000 schedules in all"]);
}

#[test]
fn too_deep() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let deep = "[".repeat(1 << 20);
    let json = file("deep.json", deep.clone());
    let within = file("deep-within.json", format!("{{\"rows\": {deep}"));
    let unknown = file("deep-unknown.json", format!("{{\"unknown\": {deep}"));
    let toml = file("deep.toml", format!("a = {}", "[".repeat(1 << 20)));
    for json in [&json, &within, &unknown] {
        vmm(&["agree", json, json]).exits(65).says(&[json]);
        vmm(&["probe", "--compare", json, json]).exits(65).says(&[json]);
    }
    vmm(&["campaign", &toml]).exits(65).says(&["deep.toml:1"]);
    let results = dir.path().join("results");
    fs::create_dir(&results).unwrap();
    for json in [&json, &within, &unknown] {
        fs::copy(json, results.join("campaign.json")).unwrap();
        vmm(&["report", results.to_str().unwrap()]).exits(65).says(&["campaign.json"]);
    }
}

#[test]
fn files_without_an_end() {
    let begin = Instant::now();
    vmm(&[&RUN[..], &["--guest", "/dev/zero"]].concat()).exits(65).says(&["/dev/zero", "256 MiB"]);
    vmm(&[&RUN[..], &["--entry", "/dev/zero"]].concat()).exits(65).says(&["/dev/zero", "256 MiB"]);
    vmm(&["campaign", "/dev/zero"]).exits(65).says(&["/dev/zero", "16 MiB"]);
    vmm(&["agree", "/dev/zero", "/dev/zero"]).exits(65).says(&["/dev/zero", "256 MiB"]);
    vmm(&["linux", "--kernel", "/dev/zero", "--sweep"]).exits(65).says(&["/dev/zero", "1024 MiB"]);
    assert!(begin.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_search_takes_the_memory_that_it_may_and_no_more() {
    const LIMIT_KIB: u64 = 150 << 10;
    let args = ["explore", "--scheme", "naive", "--scenario", "vmalloc-fault", "--keep-going", "--stepped"];
    let more = ["--dead-words", "--no-model", "--all-arrivals", "--max-memory", "150M", "--json"];
    let mut child = command().args(args).args(more).stdout(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let out = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(report.to_string().contains("max-memory"), "the limit was not hit: {report}");
    assert!(peak < LIMIT_KIB * 11 / 10, "{peak} KiB of {LIMIT_KIB}");
    assert!(peak > LIMIT_KIB * 6 / 10, "it gave up at {peak} KiB of {LIMIT_KIB}");
}

#[test]
fn too_few_descriptors() {
    let text = "name = \"x\"\nschemes = [\"naive\"]\nscenarios = [\"quiet\"]\n\
                generate = { schedules = [\"nmi@kernel::scenario::work::run#1\", \"nmi@kernel::scenario::work::run+0x2#1\"] }\n";
    let (dir, file) = campaign_file(text);
    let mut seen = [0, 0];
    for descriptors in 3..40 {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" campaign \"$1\" --jobs 4 --out \"$2\"");
        let out = dir.path().join(format!("out-{descriptors}"));
        let done = Command::new("sh").arg("-c").arg(script).arg(VMM).arg(&file).arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        match done.status.code() {
            Some(0) => seen[0] += 1,
            // Loading a program takes a descriptor, too: then there is none of ours yet.
            Some(127) => assert!(!said.contains("vmm:"), "{said}"),
            Some(69 | 74) => {
                assert!(said.contains("Too many open files"), "{descriptors}: {said}");
                seen[1] += 1;
            }
            other => panic!("{descriptors} descriptors: {other:?}, {said}"),
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
