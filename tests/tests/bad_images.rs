//! Images that break the contract (docs/guide/guest-abi.md): each is told in one clear line
//! and exits 65, and nothing panics or hangs.

mod common;

use std::time::{Duration, Instant};

use common::{Done, vmm};
use tests::elf::{CODE, DATA, END, HANG, HLT, READY, Segment, Tiny, UD2};

fn with(bytes: &[u8], args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.elf");
    std::fs::write(&path, bytes).unwrap();
    vmm(&[args, &["--guest", path.to_str().unwrap()]].concat())
}

/// Reads it only.
#[track_caller]
fn refused(bytes: &[u8], says: &[&str]) {
    with(bytes, &["list", "schemes"]).exits(65).says(says);
}

/// Runs it.
fn run(tiny: &Tiny, schedule: &str) -> Done {
    with(&tiny.bytes(), &["run", "--scheme", "s", "--scenario", "c", "--schedule", schedule])
}

fn good() -> Tiny {
    Tiny::new(&[READY, END, HLT])
}

#[test]
fn a_good_one_runs() {
    run(&good(), "").exits(0);
}

#[test]
fn a_file_that_is_no_elf_of_the_right_kind() {
    refused(b"", &["the file is empty"]);
    refused(b"#!/bin/sh\n", &["does not begin with the ELF magic"]);
    refused(b"\x7fELF", &["not a usable ELF"]);
    refused(&good().bytes()[..40], &["not a usable ELF"]);
    refused(&Tiny { class: 1, ..good() }.bytes(), &["32-bit ELF"]);
    refused(&Tiny { data: 2, ..good() }.bytes(), &["big-endian"]);
    refused(&Tiny { machine: 183, ..good() }.bytes(), &["for machine 183"]);
    refused(&Tiny { kind: 3, ..good() }.bytes(), &["position-independent", "-no-pie"]);
    refused(&Tiny { kind: 1, ..good() }.bytes(), &["relocatable object", "--entry"]);
}

#[test]
fn segments_that_do_not_fit() {
    let with = |change: &dyn Fn(&mut Vec<Segment>)| {
        let mut tiny = good();
        change(&mut tiny.segments);
        tiny.bytes()
    };
    refused(&with(&|s| s.clear()), &["no loadable segment"]);
    refused(&with(&|s| (s[1].vaddr, s[1].paddr) = (0x8000, 0x8000)), &["begins below 0x100000"]);
    refused(&with(&|s| s[1].size = 1 << 32), &["ends beyond the RAM of 2097152 bytes"]);
    refused(&with(&|s| s[1].size = u64::MAX), &["reaches beyond the address space"]);
    refused(&with(&|s| s[1].size = 1), &["more bytes in the file than in memory"]);
    refused(&with(&|s| (s[1].vaddr, s[1].paddr) = (CODE + 8, CODE + 8)), &["overlaps the one at physical"]);
    refused(&with(&|s| s[1].vaddr += 1), &["differ within a page"]);
    refused(&with(&|s| s[1].vaddr = 0x8000_0000_0000_0000), &["not canonical"]);
    refused(&with(&|s| s[1].vaddr = 0x3000), &["where RAM is mapped one to one"]);
    refused(
        &with(&|s| {
            s[0].vaddr = 0xffff_ffff_8000_0000;
            s[1].vaddr = s[0].vaddr;
        }),
        &["virtual pages in common"],
    );
    refused(&Tiny { entry: DATA, ..good() }.bytes(), &["entry point 0x101000", "executable"]);
    let mut cut = good().bytes();
    cut[64 + 32..64 + 40].copy_from_slice(&u64::MAX.to_le_bytes()); // p_filesz
    refused(&cut, &["beyond the end of the file"]);
}

#[test]
fn a_manifest_that_is_missing_or_wrong() {
    refused(&Tiny { manifest: None, ..good() }.bytes(), &["no manifest", "NMI-LAB"]);
    let with = |from: &str, to: &str| good().manifest(from, to).bytes();
    refused(&with("abi 1", "abi 7"), &["contract version 7", "speaks version 1"]);
    refused(&with("abi 1", "# none"), &["contract version none"]);
    refused(&with("abi 1", "abi 1\nshceme x"), &["unknown declaration", "shceme", "known:"]);
    refused(&with("arg=start", "arg=\"start"), &["no closing quote"]);
    refused(&with("entry=handler", "entry=hanlder"), &["hanlder", "is not a symbol"]);
    refused(&with("entry=handler", "entry=stack_low"), &["scheme s: entry= is 0x101200", "executable"]);
    refused(&with("entry=handler", "repeat=start,start+0x2000"), &["repeat=", "executable"]);
    refused(&with("entry=handler", "faults=gp@stack_low"), &["faults=", "executable"]);
    refused(&with("entry=handler", "faults=xx@start"), &["names no exception"]);
    refused(&with("scenario c arg=start", "scenario c arg=start needs=luck"), &["\"luck\"", "need (ldt-ss16)"]);
    refused(&with("abi 1", "abi 1\ncode32 low=stack_low high=stack_high"), &["code32: low=", "executable"]);
    refused(&with("abi 1", "abi 1\nalias low=start"), &["alias needs high"]);
    refused(&with("entry=handler", "colour=red"), &["unknown key", "colour"]);
    refused(&with("scheme s arg=start", "scheme s"), &["scheme s needs arg"]);
    refused(&with("scenario c arg=start", ""), &["at least one scenario"]);
    refused(&with("high=stack_high", "high=stack_low"), &["is not above"]);
    refused(&with("abi 1", "abi 1\nhypercalls page=stack_low"), &["hypercalls: page=", "executable"]);
    refused(&with("abi 1", "abi 1\nhypercalls page=start+0x8"), &["hypercalls: page="]);
    refused(&with("abi 1", "abi 1\nhypercalls"), &["hypercalls needs page"]);
    refused(&with("low=stack_low", "low=start"), &["stack main", "one writable segment"]);
    refused(&with("abi 1", "abi 1\nscratch low=stack_low high=stack_high+0x7fffffffffff0000"), &["writable"]);
    refused(&with("ram 2097152", "ram 12"), &["2 MiB"]);
    refused(&Tiny { symbols: vec![], ..good() }.bytes(), &["do not strip"]);
}

#[test]
fn guests_that_never_report_ready() {
    let not_ready = |tiny: &Tiny, says: &[&str]| {
        run(tiny, "").exits(65).says(&["never reported ready"]).says(says);
    };
    not_ready(&Tiny::bare(&[UD2]), &["triple fault"]);
    not_ready(&Tiny::bare(&[HLT]), &["halted at start"]);
    not_ready(&Tiny::bare(&[END]), &["hypercall 0xe3 first"]);
    not_ready(&Tiny::bare(&[&[0xe7, 0x80]]), &["0x80"]);
    not_ready(&Tiny::bare(&[READY]), &["no handler for NMIs"]);
    not_ready(&Tiny::bare(&[&[0xe5, 0xe0]]), &["IN from port"]);
    let before = Instant::now();
    not_ready(&Tiny::bare(&[HANG]), &["runs without end at start"]);
    assert!(before.elapsed() < Duration::from_secs(60));
    // PV hypercalls without end.
    let pv = Tiny::bare(&[&[0xe7, 0xe8, 0xeb, 0xfc]]).manifest("entry=handler", "mode=pv");
    not_ready(&pv, &["PV hypercalls without end"]);
}

#[test]
fn guests_whose_run_without_nmis_fails() {
    run(&Tiny::new(&[READY, HANG]), "").exits(65).says(&["never ends", "start"]);
    run(&Tiny::new(&[READY, HLT]), "").exits(65).says(&["run without NMIs fails"]);
    run(&Tiny::new(&[READY, UD2]), "").exits(65).says(&["run without NMIs fails"]);
}

#[test]
fn a_handler_that_faults_at_once_is_a_verdict() {
    let mut tiny = good();
    tiny.segments[0].bytes[0x110..0x112].copy_from_slice(UD2);
    let done = run(&tiny, "nmi@start+0x11#1").exits(1);
    assert!(done.stdout.contains("shutdown") || done.stdout.contains("I18"), "{}", done.stdout);
}
