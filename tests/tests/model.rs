//! The model of the CPU, held to this host's KVM: forms of instructions in random machines.
//!
//! `MODEL_CASES=2000 cargo test -p tests --test model -- --nocapture` runs more of each form.

#![allow(clippy::print_stdout, reason = "how much was compared is part of the result")]

use vmm::cpu::Model;
use vmm::cpu::conform::{Form, Random, Scene, Verdict, compare, forms};
use vmm::kvm::Host;
use vmm::probe::model::{Machine, explain, knobs, measure};

/// Cases of each form at each CPL.
fn cases() -> u64 {
    std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn every_form_does_on_kvm_what_the_model_says() {
    let host = Host::open().expect("these tests compare the model with KVM");
    let only = std::env::var("MODEL_FORM").unwrap_or_default();
    let report = measure(&host, cases(), |name| name.starts_with(&only)).expect("a VM");
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    let differing: Vec<_> = report.forms.iter().filter_map(|row| row.example.as_ref()).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    assert!(report.sum(|row| row.same) > report.sum(|row| row.not_run + row.not_understood + row.deviates));
}

/// Forms that a known deviation (of the trap flag, too, which POPF sets at random), or an
/// undefined flag that is moved, would end a path with.
const NOT_IN_PATHS: [&str; 14] = [
    "in imm", "popf", "syscall", "int", "cmpxchg", "mov from", "sldt", "str", "rdfs", "rdgs", "wrfs", "wrgs", "pushf",
    "lahf",
];

#[test]
fn paths_of_several_instructions_do_so_too() {
    let host = Host::open().expect("these tests compare the model with KVM");
    let mut machine = Machine::new(&host).expect("a VM");
    let mut model = Model::new(knobs(&host));
    let usable = |f: &Form| f.is_plain() && !NOT_IN_PATHS.iter().any(|n| f.name.starts_with(n));
    let plain: Vec<Form> = forms().filter(usable).collect();
    let (mut same, mut unknown, mut known) = (0, 0, 0);
    for case in 0..cases() * 50 {
        let mut random = Random::new(1 << 61 | case);
        let mut some = || plain[random.below(plain.len() as u64) as usize];
        let chosen: [Form; 5] = std::array::from_fn(|_| some());
        let scene = Scene::path(&chosen[0], &chosen[1..], 0, &mut random);
        match compare(&mut model, &scene, |s| machine.run(s)) {
            Verdict::Same => same += 1,
            Verdict::NotUnderstood(_) | Verdict::Failed(_) => unknown += 1,
            Verdict::Differs(what) if explain("", 0, &what).is_some() => known += 1,
            Verdict::Differs(what) => panic!("{:?} {:x?}\n{}", chosen.map(|f| f.name), scene.cpu.regs, what.join("\n")),
        }
    }
    println!("{same} paths the same, {unknown} not understood or not run, {known} known deviations");
    assert!(same > unknown);
}
