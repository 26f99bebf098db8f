//! A binary that needs no checkout: what it carries, what it says of a machine, and what shells and
//! manuals are given.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{command, fits_schema, gcc, vmm};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder, by their paths from there.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}"))),
            false => _ = all.insert(name),
        }
    }
    all
}

#[test]
fn init_gives_out_every_example_campaign_and_schema_and_writes_over_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lab = dir.path().join("my-lab");
    let to = lab.to_str().unwrap();
    vmm(&["init", to]).exits(0).prints(&["0 there already", "make -C"]);
    let folders = [
        ("scripts/examples", ""),
        ("scripts/campaigns", "campaigns"),
        ("scripts/cluster", "cluster"),
        ("docs/schemas", "schemas"),
    ];
    for (from, folder) in folders {
        // What was built in the checkout, and what belongs to the checkout's tests alone.
        let built = |file: &str| [".o", ".elf", "-test", "-check"].iter().any(|e| file.ends_with(e));
        let ours = |file: &&String| !built(file) && !file.starts_with("faults/");
        let there = files(&checkout().join(from));
        for file in there.iter().filter(ours) {
            let made = std::fs::read(lab.join(folder).join(file));
            let made = made.unwrap_or_else(|e| panic!("vmm init leaves out {from}/{file}: {e}"));
            assert!(made == std::fs::read(checkout().join(from).join(file)).unwrap(), "{file}");
        }
    }
    let script = std::fs::metadata(lab.join("cluster/slurm.sh")).unwrap();
    assert!(script.permissions().mode() & 0o100 != 0, "a script can be run");
    let mine = lab.join("campaigns/mine.toml");
    std::fs::write(&mine, "mine").unwrap();
    vmm(&["init", to]).exits(0).prints(&["0 files made", "left: campaigns/mine.toml"]);
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine");
    vmm(&["init", "/dev/null/lab"]).exits(74).says(&["/dev/null/lab"]);
}

/// The steps that `vmm init` prints, as a new user would follow them.
#[test]
fn the_steps_that_init_prints_lead_to_a_verdict() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().to_str().unwrap();
    vmm(&["init", to]).exits(0);
    gcc::must(Command::new("make").arg("-C").arg(dir.path().join("entry-only")));
    let (file, entry) = (format!("{to}/campaigns/mine.toml"), format!("{to}/entry-only/my_nmi.o"));
    let done = vmm(&["campaign", &file, "--entry", &entry, "--json"]).exits(1).json();
    let verdict = |scenario: &str| {
        let rows = done["rows"].as_array().unwrap();
        rows.iter().find(|row| row["scenario"] == scenario).map(|row| row["verdict"].clone())
    };
    assert_eq!(verdict("quiet"), Some("pass".into()), "{done}");
    assert_eq!(verdict("short-ud-fault"), Some("violation".into()), "{done}");
}

#[test]
fn the_doctor_finds_what_is_missing_and_names_the_cure() {
    let done = vmm(&["doctor", "--json"]).exits(0);
    fits_schema("doctor", &done.json());
    let nowhere = command().arg("doctor").env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(0), "{nowhere:?}");
    let text = String::from_utf8(nowhere.stdout).unwrap();
    assert!(text.contains("is not in PATH") && text.contains("cure: sudo apt install gdb"), "{text}");
    let without = command().args(["doctor", "--format", "ktap"]).env("VMM_KVM", "/nonexistent/kvm").output().unwrap();
    assert_eq!(without.status.code(), Some(69), "{without:?}");
    let text = String::from_utf8(without.stdout).unwrap();
    assert!(text.contains("not ok 1") && text.contains("no /dev/kvm"), "{text}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let script = vmm(&["completions", "bash"]).exits(0).stdout;
    let dir = tempfile::tempdir().unwrap();
    vmm(&["man", dir.path().to_str().unwrap()]).exits(0);
    let pages = files(dir.path());
    for name in ["run", "campaign", "explore", "linux", "doctor", "init"] {
        assert!(script.contains(&format!("vmm__subcmd__{name}")) || script.contains(&format!("vmm__{name}")), "{name}");
        assert!(pages.contains(&format!("vmm-{name}.1")), "{name}: {pages:?}");
    }
    let page = std::fs::read_to_string(dir.path().join("vmm-explore.1")).unwrap();
    assert!(page.contains(".SH OPTIONS"), "{page}");
    vmm(&["completions", "no-shell"]).exits(2).says(&["no-shell"]);
}
