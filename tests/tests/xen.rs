//! The real Xen, Debian's as it is: it passes what it can, and a guest whose NMI body faults is entered
//! again while it is active, since HYPERVISOR_iret unmasks NMIs whoever calls it. Needs the files of
//! `scripts/xen/fetch-debian-xen`; without them these tests are ignored, and say so (build.rs).

mod common;

use std::process::Command;

use common::{Done, gcc, vmm};
use serde_json::Value;

const FOLDER: &str = env!("DEBIAN_XEN");

fn xen(args: &[&str]) -> Done {
    xen_of(FOLDER, args)
}

fn xen_of(folder: &str, args: &[&str]) -> Done {
    let (hypervisor, symbols) = (format!("{folder}/xen.gz"), format!("{folder}/xen-syms"));
    vmm(&[&["xen", "--hypervisor", &hypervisor, "--symbols", &symbols], args].concat())
}

#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn a_body_that_faults_is_entered_again_and_one_that_does_not_is_not() {
    let schedule = ["--schedule", "nmi@pv_work nmi@pv_body"];
    for body in ["ud", "page-fault"] {
        let args = [&["--body", body], &schedule[..]].concat();
        xen(&args).exits(1).prints(&["violation(I5"]);
    }
    for body in ["nothing", "hypercalls"] {
        let args = [&["--body", body], &schedule[..]].concat();
        xen(&args).exits(0).prints(&["verdict    pass", "2 delivered, 2 handled"]);
    }
    // An unpatched Xen does not look at the flag.
    xen(&[&["--body", "ud-flag"], &schedule[..]].concat()).exits(1).prints(&["violation(I5"]);
    let many = xen(&[&["--repeat", "20", "--json"], &schedule[..]].concat()).exits(0).json();
    common::fits_schema("linux-case", &many);
    assert_eq!(many["repeats"]["differing"], 0);
    let costs = xen(&["costs", "--site", "pv_work", "--json"]).exits(0).json();
    common::fits_schema("kernel-costs", &costs);
    let user: Vec<bool> = costs["stretches"].as_array().unwrap().iter().map(|s| s["user"] == true).collect();
    assert_eq!(user, [false, true, false]);
    // Around the guest's user code, and in it.
    for schedule in ["nmi@pv_to_user nmi@pv_iret", "nmi@pv_user nmi@pv_iret", "nmi@pv_syscall nmi@pv_body"] {
        xen(&["--schedule", schedule]).exits(0).prints(&["verdict    pass", "2 delivered, 2 handled"]);
    }
    xen(&["--body", "ud", "--schedule", "nmi@pv_user nmi@pv_body"]).exits(1).prints(&["violation(I5"]);
    // Each instruction of Xen's entry code in turn, here four of them.
    let needed = xen(&["necessity", "--shard", "0/40", "--json"]).exits(0).json();
    common::fits_schema("necessity", &needed);
    let places = needed["findings"].as_array().unwrap().iter().map(|f| f["place"].as_str().unwrap());
    let own = ["handle_ist_exception", "restore_all_xen", "nmi", "entry_NMI"];
    assert!(places.clone().all(|p| own.contains(&p.split('+').next().unwrap())), "{needed}");
    assert!(places.count() >= 3, "{needed}");
    // The same fault without a second NMI is no defect.
    xen(&["--body", "ud", "--schedule", "nmi@pv_work", "--gear", "step"]).exits(0);
}

/// The example of a user's own guest (scripts/examples/pv-guest), followed as its README shows it.
#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn a_guest_of_the_users_own_runs_in_the_place_of_the_labs() {
    if !gcc::is_there() {
        return;
    }
    let all = gcc::copied_examples();
    let dir = all.path().join("pv-guest");
    let make = |args: &[&str]| gcc::must(Command::new("make").arg("-B").args(args).current_dir(&dir));
    let elf = dir.join("guest.elf");
    let guest = ["--guest", elf.to_str().unwrap()];
    let run = |args: &[&str]| xen(&[&guest[..], &["--schedule", "nmi@work nmi@body"], args].concat());
    let named = ["--alive", "0x4f0", "--counter", "nmi_count", "--nested", "nested", "--panic", "panic"];
    make(&[]);
    let line = run(&named).exits(1).prints(&["violation(I5", "2 delivered, 2 handled"]).stdout;
    let line = line.lines().find_map(|l| l.strip_prefix("replay")).unwrap().trim().to_owned();
    vmm(&["explain", &line]).exits(1).prints(&["I5 (no re-entry)"]);
    // Nothing named but a sign of life: what is not looked at is said, and memory shows it all the same.
    run(&["--alive", "work"]).exits(1).prints(&["violation(I7"]);
    make(&["FIXED=1"]);
    run(&named).exits(0).prints(&["verdict    pass"]);
    let json = run(&["--alive", "work", "--json"]).exits(0).json();
    assert!(json["unchecked"].as_array().is_some_and(|words| words.len() == 3), "{json}");

    run(&["--alive", "nowhere"]).exits(65).says(&["nowhere"]);
    run(&["--alive", "0"]).exits(2).says(&["port 0"]);
    run(&["--alive", "work", "--nested", "nope"]).exits(65).says(&["nope"]);
    run(&[]).exits(2).says(&["--alive"]);
    run(&["--alive", "work", "--body", "ud"]).exits(2).says(&["--body"]);
    let other = std::env::current_exe().unwrap();
    let other = ["--guest", other.to_str().unwrap(), "--alive", "main", "--sweep"];
    xen(&other).exits(65).says(&["XEN_ELFNOTE_ENTRY"]);
}

/// Linux comes up as dom0 on hosts that take half a minute for it, and not on every one
/// (docs/findings/xen.md); what cannot be one is refused on all.
#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn what_cannot_be_dom0_is_refused() {
    let sweep = |args: &[&str]| xen(&[args, &["--sweep"]].concat());
    sweep(&["--dom0", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]).exits(65).says(&["bzImage"]);
    sweep(&["--dom0", "vmlinuz", "--guest", "mine.elf", "--alive", "0x4f0"]).exits(2).says(&["--guest"]);
    sweep(&["--dom0", "vmlinuz", "--body", "ud"]).exits(2).says(&["--body"]);
    sweep(&["--initrd", "rd"]).exits(2).says(&["--dom0"]);
    sweep(&["--dom0", "/nowhere/vmlinuz"]).exits(65).says(&["/nowhere/vmlinuz"]);
    if cfg!(linux_test_kernel) {
        sweep(&["--dom0", env!("LINUX_TEST_KERNEL")]).exits(65).says(&["CONFIG_XEN_PV"]);
    }
}

#[test]
#[cfg_attr(not(patched_xen), ignore = "NOT RUN: no patched Xen (scripts/xen/build-patched-xen)")]
fn a_xen_whose_iret_has_a_flag_is_not_entered_again() {
    let run = |body| xen_of(env!("PATCHED_XEN"), &["--body", body, "--schedule", "nmi@pv_work nmi@pv_body"]);
    run("ud-flag").exits(0).prints(&["verdict    pass", "2 delivered, 2 handled"]);
    // A guest that does not set it is as badly off as before.
    run("ud").exits(1).prints(&["violation(I5"]);
}

#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn a_search_closes_only_where_it_follows_what_the_guest_is_told() {
    xen(&["explore", "--max-states", "5000"]).exits(0).prints(&["pass, closed", "do_xen_version"]);
    // The guest is told within the path, by an interrupt that Xen sends itself.
    xen(&["explore", "--max-states", "5000", "--site", "pv_work"]).exits(1).prints(&["not closed"]);
}

#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn every_boundary_of_xens_path_is_survived_while_nmis_are_blocked() {
    let json: Value = xen(&["--sweep", "--json"]).exits(0).json();
    common::fits_schema("linux", &json);
    let rows = json["sweeps"][0]["rows"].as_array().unwrap();
    assert!(rows.len() > 100, "{}", rows.len());
    let passed = rows.iter().filter(|row| row["verdict"] == "pass").count();
    assert_eq!(passed, rows.len());
    // Unblocked from outside, Xen dies while it is still on the IST, and never claimed else.
    let rows = json["sweeps"][1]["rows"].as_array().unwrap();
    let died: Vec<_> = rows.iter().filter(|row| row["verdict"] != "pass").collect();
    assert!(!died.is_empty() && died.iter().all(|row| row["expected"] == "any"), "{died:?}");
}

#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn symbols_of_another_build_and_places_that_are_not_there_are_refused() {
    let hypervisor = format!("{FOLDER}/xen.gz");
    let run = |args: &[&str]| vmm(&[&["xen", "--hypervisor", &hypervisor], args].concat());
    let dir = tempfile::tempdir().unwrap();
    let mut other = std::fs::read(format!("{FOLDER}/xen-syms")).unwrap();
    let note = b"\x14\0\0\0\x03\0\0\0GNU\0"; // 20 bytes, NT_GNU_BUILD_ID
    let id = other.windows(note.len()).position(|bytes| bytes == note).unwrap() + note.len();
    other[id] ^= 1;
    let syms = dir.path().join("xen-syms");
    std::fs::write(&syms, other).unwrap();
    run(&["--symbols", syms.to_str().unwrap(), "--sweep"]).exits(65).says(&["of another build"]);
    run(&["--symbols", &hypervisor, "--sweep"]).exits(65).says(&["not xen-syms"]);
    xen(&["--sweep", "--site", "no_such_place"]).exits(65).says(&["no_such_place"]);
    xen(&["--sweep", "--site", "user"]).exits(65);
}
