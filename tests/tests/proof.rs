//! A pass of a search that closed is a proof. So these guests, each of them broken in a way that
//! a search could overlook, must never pass: tests/guests/proof/.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, gcc, vmm};
use serde_json::Value;

/// What a guest consists of, besides guest.S.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// NMIs do not nest.
    Flat,
    /// Nested NMIs make the live one repeat its body.
    Nested,
    /// The same, on a stack of their own.
    Ist,
    /// The hypervisor delivers NMIs.
    Pv,
    /// As `Flat`; what is written has two virtual addresses.
    Aliased,
}
use Made::{Aliased, Flat, Ist, Nested, Pv};

/// What a search of a broken guest must come to.
#[derive(Clone, Copy, Debug)]
enum Right {
    /// A violation of this rule.
    Breaks(&'static str),
    /// It is not closed, and says why with these words; a violation may be found by chance.
    NotClosed(&'static str),
    /// The guest breaks the contract (exit code 65), with these words.
    Refused(&'static str),
}
use Right::{Breaks, NotClosed, Refused};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/proof")
}

fn gcc(args: &[&str], to: &Path, from: &[&str]) {
    let include = format!("-I{}", gcc::examples().join("include").display());
    let from = from.iter().map(|f| sources().join(f));
    gcc::must(Command::new("gcc").arg(include).args(args).arg("-o").arg(to).args(from));
}

/// Builds guest.S with the defect in `defect`, if there is one, and explores it.
fn explore(made: Made, defect: Option<&str>) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let elf = dir.path().join("guest.elf");
    let script = format!("-Wl,-T,{}", sources().join("guest.ld").display());
    let high = format!("-Wl,--defsym=HIGH={}", if made == Aliased { "0x40000000" } else { "0" });
    let define = match made {
        Nested => "-DNESTED",
        Ist => "-DIST",
        Pv => "-DPV",
        Flat | Aliased => "-DFLAT",
    };
    let link = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", &script, &high];
    let defect = defect.map(|d| format!("{d}.S"));
    let from: Vec<&str> = ["guest.S"].into_iter().chain(defect.as_deref()).collect();
    gcc(&[&[define][..], &link].concat(), &elf, &from);
    vmm(&["explore", "--guest", elf.to_str().unwrap(), "--scheme", "kind", "--scenario", "sum", "--json"])
}

/// Explores the built-in kernel with the NMI entry in `entry`; `more` are further options.
fn explore_entry(entry: &str, more: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("entry.o");
    gcc(&["-fno-pic", "-mcmodel=kernel", "-c"], &object, &[&format!("{entry}.S")]);
    let what = ["explore", "--entry", object.to_str().unwrap(), "--scheme", "custom", "--scenario", "quiet", "--json"];
    vmm(&[&what[..], more].concat())
}

/// Checks what a search came to, and that KVM and all gears agree with it.
#[track_caller]
fn check(name: &str, done: Done, right: Right) {
    if let Some(found) = is_right(name, done, right) {
        let none = Value::Array(vec![]);
        assert_eq!((&found["disagreements"], &found["deviations"]), (&0.into(), &none), "{name}: {found}");
    }
}

/// Checks what a search came to. Returns its document, if there is one.
#[track_caller]
fn is_right(name: &str, done: Done, right: Right) -> Option<Value> {
    if let Refused(words) = right {
        done.exits(65).says(&[words]);
        return None;
    }
    assert_eq!(done.code, 1, "{name}: {}{}", done.stdout, done.stderr);
    let found: Value = done.json();
    assert_ne!(found["verdict"], "pass", "{name}: {found}");
    match right {
        Breaks(rule) => assert_eq!(found["violations"][0]["invariant"], rule, "{name}: {found}"),
        NotClosed(why) => {
            let bound = found["bound"].as_str().unwrap_or_default();
            assert!(bound.contains(why) || found["verdict"] == "violation", "{name}: {found}");
            assert_eq!(found["closed"], false, "{name}: {found}");
        }
        Refused(_) => unreachable!("it was looked at above"),
    }
    Some(found)
}

#[test]
fn the_guest_itself_passes() {
    if !gcc::is_there() {
        return;
    }
    for made in [Flat, Nested, Ist, Pv, Aliased] {
        let found = explore(made, None).exits(0).json();
        assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{found}");
    }
}

/// What one NMI leaves behind breaks a later one. It lies where a search might forget to compare,
/// to hash or to restore it.
#[test]
fn what_is_hidden_is_found() {
    let kinds = [
        ("hidden-cr8", Breaks("I6")),
        ("hidden-dr7", Breaks("I6")),
        ("hidden-msr", Breaks("I6")),
        ("hidden-xmm", Breaks("I6")),
        ("hidden-free-ram", Refused("0x180000")),
        ("any-order", Breaks("I6")),
        ("gdt-limit", Breaks("I6")),
        ("gdt-limit-twice", Breaks("I6")),
    ];
    each(Flat, &kinds);
}

/// A word below the stack pointer looks dead to a search that misses the way in which it is read.
#[test]
fn what_is_read_is_not_dead() {
    each(Flat, &[("read-xlat", Breaks("I6")), ("read-bt", Breaks("I6")), ("second-round", Breaks("I6"))]);
    each(Aliased, &[("read-alias", Breaks("I6"))]);
    each(Pv, &[("read-hypercall", Breaks("I14"))]);
}

/// Boundaries that are there only at run time, and one that a free run does not stand at.
#[test]
fn every_boundary_is_stood_at() {
    let kinds = [
        ("patched-code", Breaks("I6")),
        ("second-idt", Breaks("I6")),
        ("far-jump", Breaks("I6")),
        ("iterations", Breaks("I6")),
        ("astray", Breaks("I9")),
    ];
    each(Flat, &kinds);
}

/// The handler looks at the instruction that it interrupted. In free runs a HLT of the lab's stands
/// in its place, so the gears that run freely come to another verdict. The search is not misled.
#[test]
fn a_handler_that_reads_the_interrupted_code_is_seen() {
    if gcc::is_there() {
        is_right("own-opcode", explore(Flat, Some("own-opcode")), Breaks("I6"));
    }
}

/// A nested NMI that depends on the interrupted context, by a way that is hard to follow.
#[test]
fn contexts_that_differ_are_not_alike() {
    let kinds = [
        ("nested-bt", Breaks("I14")),
        ("nested-unaligned", Breaks("I14")),
        ("nested-popfq", Breaks("I14")),
        ("nested-rsp", Breaks("I14")),
        ("nested-sign", Breaks("I14")),
        ("nested-flags", Breaks("I14")),
        ("nested-cmpxchg", Breaks("I14")),
        ("nested-scratch", Breaks("I7")),
        ("nested-gdt", Breaks("I18")),
    ];
    each(Nested, &kinds);
}

/// The oracle's own comparisons are reads, too.
#[test]
fn what_the_oracle_compares_is_not_dead() {
    each(Ist, &[("kept-deeper", Breaks("I7")), ("kept-other", Breaks("I7"))]);
}

/// A page that KVM writes by itself is refused.
#[test]
fn memory_that_changes_by_itself_is_refused() {
    each(Flat, &[("kvm-clock", Refused("0x4b564d01"))]);
}

/// The clock decides what each run comes to, so that the gears may disagree.
#[test]
fn code_that_reads_time_is_never_proved() {
    if gcc::is_there() {
        let found = is_right("time", explore(Flat, Some("time")), NotClosed("reads time")).unwrap();
        assert_eq!(found["deviations"], Value::Array(vec![]), "{found}");
    }
}

#[test]
fn entries_are_held_to_the_same() {
    if !gcc::is_there() {
        return;
    }
    check("entry-direct-map", explore_entry("entry-direct-map", &[]), Refused("0x3ff000"));
    check("entry-dr7", explore_entry("entry-dr7", &[]), Breaks("I6"));
}

/// Poison in dead words does not count as the guest's use of a stack.
#[test]
fn a_write_of_a_part_of_a_dead_word_is_no_more_stack_use_than_without_poison() {
    if !gcc::is_there() {
        return;
    }
    let [reduced, whole] = [&[][..], &["--dead-words"]].map(|more| {
        let found: Value = explore_entry("stack-part", more).exits(0).json();
        assert_eq!((&found["verdict"], &found["closed"]), (&"pass".into(), &true.into()), "{found}");
        found
    });
    assert!(reduced["poisoned"].as_u64() > Some(0), "{reduced}");
    assert_eq!(reduced["stacks"], whole["stacks"]);
}

fn each(made: Made, kinds: &[(&str, Right)]) {
    if !gcc::is_there() {
        return;
    }
    for (name, right) in kinds {
        check(name, explore(made, Some(name)), *right);
    }
}
