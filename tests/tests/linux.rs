//! A real Linux kernel: the test kernel survives what it can, and a broken one is found
//! out, at the right boundary. Needs `scripts/linux/build-test-kernel` to have run.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use vmm::kvm::{Host, interrupt_after};
use vmm::linux::{Kind, Lab, Row, Setup, Sweep};
use vmm::machine::linux::{KernelSymbols, Options, vmlinux};

/// The test kernel, or a loud word (past the test harness's capture) that it is not
/// there and nothing was tested.
fn kernel() -> Option<Vec<u8>> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let path = cache.join("nmi-lab/linux/vmlinux");
    match std::fs::read(&path) {
        Ok(bytes) => Some(vmlinux(bytes).expect("the test kernel is an ELF file")),
        Err(why) => {
            let path = path.display();
            let text =
                format!("\nNOT RUN: the Linux tests ({path}: {why}); build it by scripts/linux/build-test-kernel\n");
            let _ = std::io::stderr().write_all(text.as_bytes());
            None
        }
    }
}

fn boot(elf: &[u8], site: &str, mutations: &[&str]) -> Lab {
    let symbols = KernelSymbols::of_image(elf).expect("the test kernel has symbols");
    interrupt_after(Duration::from_millis(20));
    let host = Host::open().expect("KVM");
    let options = Options { ram_mib: 64, ..Options::default() };
    let mutations = mutations.iter().map(|m| (*m).to_owned()).collect();
    let setup = Setup { elf: elf.to_vec(), symbols, options, mutations };
    Lab::new(&host, setup, site, None, &mut |_, _| {}).expect("the test kernel boots")
}

/// The rows of a sweep of NMI #2.
fn second(lab: &mut Lab, kind: Kind) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut sweep = Sweep::new(lab, 16);
    sweep.second(kind, &mut |row, _, _| rows.push(row.clone())).expect("the sweep runs");
    assert_eq!(sweep.stats().disagreed, 0, "the ways to raise an NMI agree");
    rows
}

#[test]
fn the_kernel_survives_what_it_can_and_a_broken_one_does_not() {
    let Some(elf) = kernel() else { return };
    for site in ["", "user"] {
        let mut lab = boot(&elf, site, &[]);
        let masked = second(&mut lab, Kind::Masked);
        assert!(masked.len() > 100);
        for row in &masked {
            assert!(row.outcome.verdict.is_pass(), "{}: {}", lab.show_schedule(&row.events), row.outcome.verdict);
            assert_eq!(row.outcome.handled, 2);
        }
        for row in second(&mut lab, Kind::Unmasked) {
            let schedule = lab.show_schedule(&row.events);
            assert_eq!(row.outcome.verdict.is_pass(), row.expected.survives(), "{schedule}: {}", row.outcome.verdict);
        }
    }
}

#[test]
fn without_its_mark_of_the_way_out_the_kernel_is_found_out_at_the_iretq() {
    let Some(elf) = kernel() else { return };
    let mut lab = boot(&elf, "", &[]);
    let path = &lab.path().boundaries;
    let std = path.iter().rfind(|b| b.text == "std").expect("the way out sets DF").place.clone();
    let iretq = path.iter().rfind(|b| b.text == "iretq").expect("the way out ends in iretq").addr;
    drop(lab);
    lab = boot(&elf, "", &[&format!("{std}=90")]);
    let defects: Vec<u64> =
        second(&mut lab, Kind::Unmasked).iter().filter(|r| r.is_defect()).map(|r| r.at.addr).collect();
    assert_eq!(defects, [iretq]);
}
