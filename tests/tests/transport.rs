//! What carries PV hypercalls: port I/O everywhere, Xen's page where KVM has it; the
//! guest and the verdicts are the same.

mod common;

use common::vmm;
use tests::elf::{END, HLT, READY, Tiny};

const RUN: [&str; 7] = ["run", "--scheme", "xen-flag", "--scenario", "short-ud-fault", "--schedule", ""];

/// What `vmm probe` says: `port` or `xen`.
fn probed() -> String {
    let report = vmm(&["probe", "--only", "hypercall-transport", "--json"]).exits(0).json();
    let text = report.to_string();
    match (text.contains("xen (hypercall page)"), text.contains("port (port I/O)")) {
        (true, false) => "xen".to_owned(),
        (false, true) => "port".to_owned(),
        _ => panic!("{report:#}"),
    }
}

#[test]
fn what_the_probe_says_is_what_is_in_use() {
    let compare = ["compare", "--schemes", "xen-flag", "--scenario", "quiet", "--max-states", "0", "--rounds", "0"];
    let told = vmm(&[&compare[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(told["transport"], *probed());
    let chosen = vmm(&[&compare[..], &["--json", "--transport", "port"]].concat()).exits(0).json();
    assert_eq!(chosen["transport"], "port");
    assert_eq!((&told["rows"], &told["image"]), (&chosen["rows"], &chosen["image"]), "nothing else depends on it");
}

#[test]
fn the_call_is_the_transports_instruction() {
    let call = |transport: &str| {
        let trace = vmm(&[&RUN[..6], &["nmi@short.work#1", "--trace", "--transport", transport]].concat());
        let lines: Vec<_> =
            trace.stdout.lines().filter(|l| l.contains("HYPERVISOR_iret+0x5")).map(str::to_owned).collect();
        (trace, lines)
    };
    let (done, lines) = call("port");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!lines.is_empty() && lines.iter().all(|l| l.contains("out %eax, $0xe8")), "{lines:?}");
    let (done, lines) = call("xen");
    match probed().as_str() {
        "xen" => {
            assert_eq!(done.code, 0, "{}", done.stderr);
            assert!(
                !lines.is_empty() && lines.iter().all(|l| l.contains("vmcall") || l.contains("vmmcall")),
                "{lines:?}"
            );
        }
        _ => {
            done.exits(69).says(&["KVM_CAP_XEN_HVM", "--transport port"]);
        }
    }
}

#[test]
fn an_image_without_a_page_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.elf");
    std::fs::write(&path, Tiny::new(&[READY, END, HLT]).manifest("entry=handler", "mode=pv").bytes()).unwrap();
    let guest = ["run", "--scheme", "s", "--scenario", "c", "--transport", "xen", "--guest", path.to_str().unwrap()];
    vmm(&guest).exits(65).says(&["names no hypercall page"]);
}
