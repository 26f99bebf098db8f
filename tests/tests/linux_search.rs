//! Searches of all patterns of NMIs on a real Linux kernel. Need the kernel of
//! `scripts/linux/build-test-kernel`; without it these tests are ignored, and say so (build.rs).

mod common;

use std::process::Command;

use common::vmm;

const KERNEL: &str = env!("LINUX_TEST_KERNEL");

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_search_of_all_patterns_closes_and_finds_what_is_broken() {
    let explore =
        |args: &[&str]| vmm(&[&["linux", "explore", "--kernel", KERNEL, "--ram", "64", "--json"], args].concat());
    let closed = |args: &[&str]| {
        let done = explore(args).exits(0).json();
        common::fits_schema("linux-explore", &done);
        common::is_documented(&done, &["host", "kernel", "assists"]);
        assert_eq!((&done["verdict"], &done["closed"], &done["frontier"]), (&"pass".into(), &true.into(), &0.into()));
        assert!(done["cross_checked"].as_u64() > Some(0), "{done}");
        done
    };
    let plain = closed(&[]);
    // What arrives while NMIs are blocked adds nothing but the states in which it waits.
    let all = closed(&["--all-arrivals"]);
    for key in ["returns", "boundaries"] {
        assert!(all[key].as_u64() >= plain[key].as_u64(), "{key}: {plain} {all}");
    }
    let fault = closed(&["--fault-in-handler", "auto"]);
    assert!(fault["boundaries"].as_u64() > Some(100), "{fault}");
    assert!(fault["states"].as_u64() > plain["states"].as_u64());
    // Each reduction loses nothing.
    for off in ["--stepped", "--every-episode"] {
        let whole = closed(&["--fault-in-handler", "auto", off]);
        assert!(whole["states"].as_u64() >= fault["states"].as_u64(), "{off}: {fault} {whole}");
        assert_eq!(whole["boundaries"], fault["boundaries"], "{off}");
    }
    closed(&["--site", "user"]);

    // The entry code's own protection, taken away: by the shortest schedule, which a case confirms.
    let broken = |args: &[&str]| {
        let done = explore(args).exits(1).json();
        common::fits_schema("linux-explore", &done);
        assert_eq!(done["closed"], false);
        let replay = done["violation"]["replay"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned();
        let script = format!("vmm() {{ \"$VMM\" \"$@\"; }}; {replay} --json");
        let run = Command::new("sh").args(["-c", &script]).env("VMM", common::VMM).output().unwrap();
        assert_eq!(run.status.code(), Some(1), "{replay}: {}", String::from_utf8_lossy(&run.stderr));
        done
    };
    let found = broken(&["--fault-in-handler", "auto", "--mutate", "nmi_restore+0x1b=90"]);
    let schedule = found["violation"]["schedule"].as_str().unwrap();
    assert!(schedule.contains("fault@") && schedule.ends_with("nmi@nmi_restore+0x25#1"), "{schedule}");
    assert_eq!(found["violation"]["verdict"], "livelock");
    // A handler that does not survive the fault alone is not searched.
    explore(&["--fault-in-handler", "auto", "--mutate", "exc_nmi+0x95=9090"]).exits(1).says(&["I6", "CR2 was"]);
    // A limit proves nothing.
    let limited = explore(&["--fault-in-handler", "auto", "--max-states", "100"]).exits(1).json();
    assert_eq!((&limited["verdict"], &limited["closed"]), (&"open".into(), &false.into()));
}

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_search_takes_every_kind_of_fault() {
    let explore = |args: &[&str]| vmm(&[&["linux", "explore", "--kernel", KERNEL, "--ram", "64"], args].concat());
    for by in ["breakpoint", "warn", "fixup"] {
        let fault = ["--fault-in-handler", "auto", "--fault-by", by, "--json"];
        let done = explore(&fault).exits(0).json();
        common::fits_schema("linux-explore", &done);
        common::is_documented(&done, &["host", "kernel", "assists"]);
        assert_eq!((&done["closed"], &done["fault_by"]), (&true.into(), &by.into()));
        assert!(done["boundaries"].as_u64() > Some(100), "{done}");
        // Without its mark of the way out, the entry code is broken by each.
        let found = explore(&[&fault[..], &["--mutate", "nmi_restore+0x1b=90"]].concat()).exits(1).json();
        let [schedule, replay] = ["schedule", "replay"].map(|key| found["violation"][key].as_str().unwrap().to_owned());
        assert!(schedule.ends_with("nmi@nmi_restore+0x25#1"), "{schedule}");
        assert!(replay.contains(&format!("--fault-by {by}")), "{replay}");
    }
    explore(&["--fault-by", "warn"]).exits(2).says(&["--fault-in-handler"]);
    explore(&["--fault-in-handler", "auto", "--fault-by", "trap"]).exits(2).says(&["spurious", "fixup"]);
    explore(&["--fault-in-handler", "nowhere", "--fault-by", "warn"]).exits(65).says(&["nowhere"]);
}

/// Changes of the entry code that no two NMIs show where a fault unblocks them. A nested NMI has the
/// first one's handler repeated, by an iretq that unblocks NMIs; the third comes while the frame for
/// that is copied, and must not be taken for a first.
const BY_A_THIRD: [(&str, &str); 2] = [
    ("an NMI amid the copying does not just return", "asm_exc_nmi+0x96=9090"),
    ("the copying is said to begin at its second instruction", "asm_exc_nmi+0x7c=48c7c232102081"),
];

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn what_only_a_third_nmi_breaks_is_found_with_and_without_reductions() {
    for (what, mutation) in BY_A_THIRD {
        let found = [&[][..], &["--stepped", "--every-episode"]].map(|off| {
            let search =
                ["linux", "explore", "--kernel", KERNEL, "--ram", "64", "--json", "--fault-in-handler", "auto"];
            let done = vmm(&[&search[..], &["--mutate", mutation], off].concat()).exits(1).json();
            let violation = &done["violation"];
            let schedule = violation["schedule"].as_str().unwrap_or_else(|| panic!("{what}: {done}"));
            // Schedules with fewer NMIs were all tried before.
            assert_eq!(schedule.matches("nmi@").count(), 3, "{what}: {schedule}");
            let last = schedule.rsplit(' ').next().unwrap().to_owned();
            (last, violation["verdict"].clone(), done["closed"].clone())
        });
        assert_eq!(found[0], ("nmi@repeat_nmi#2".into(), "livelock".into(), false.into()), "{what}");
        assert_eq!(found[0], found[1], "{what}");
    }
}
