//! The model of the CPU, held to this host's KVM: forms of instructions in random machines.
//!
//! `MODEL_CASES=2000 cargo test -p tests --test model -- --nocapture` runs more of each form.

#![allow(clippy::print_stdout, reason = "how much was compared is part of the result")]

mod model_host;

use std::collections::BTreeMap;

use model_host::Machine;
use model_host::deviations::explain;
use vmm::cpu::Model;
use vmm::cpu::conform::{Form, Random, Scene, Verdict, compare, forms};
use vmm::kvm::Host;

/// Cases of each form at each CPL.
fn cases() -> u64 {
    std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn every_form_does_on_kvm_what_the_model_says() {
    let host = Host::open().expect("these tests compare the model with KVM");
    let mut machine = Machine::new(&host);
    let mut model = Model::default();
    let mut counts = [0u64; 5];
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    let mut unknown: BTreeMap<String, u64> = BTreeMap::new();
    let mut differing: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let only = std::env::var("MODEL_FORM").ok();
    for (number, form) in (0u64..).zip(forms()) {
        if only.as_ref().is_some_and(|o| !form.name.starts_with(o.as_str())) {
            continue;
        }
        for cpl in form.cpls() {
            for case in 0..cases() {
                let mut random = Random::new(number << 32 | u64::from(cpl) << 24 | case);
                let scene = Scene::new(&form, cpl, &mut random);
                let verdict = compare(&mut model, &scene, |s| machine.run(s));
                let name = format!("{} at CPL {cpl}", form.name);
                match verdict {
                    Verdict::Same => counts[0] += 1,
                    Verdict::NotUnderstood(why) => {
                        counts[1] += 1;
                        *unknown.entry(format!("{name}: {why}")).or_default() += 1;
                    }
                    Verdict::Failed(why) => {
                        counts[2] += 1;
                        *failed.entry(format!("{name}: {why}")).or_default() += 1;
                    }
                    Verdict::Differs(what) if explain(form.name, cpl, &what).is_some() => {
                        counts[4] += 1;
                        let why = explain(form.name, cpl, &what).map_or("", |d| d.what);
                        *known.entry(why).or_default() += 1;
                    }
                    Verdict::Differs(what) => {
                        counts[3] += 1;
                        let told = format!(
                            "case {case}, {:02x?} {:x?}\n      {}",
                            scene.code,
                            scene.cpu.regs,
                            what.join("\n      ")
                        );
                        differing.entry(name).or_insert((0, told)).0 += 1;
                    }
                }
            }
        }
    }
    let [same, not_understood, not_run, differ, deviate] = counts;
    println!("{same} the same, {not_understood} not understood, {not_run} not run, {deviate} known, {differ} differ");
    known.iter().for_each(|(what, n)| println!("  known deviation of this host, {n}: {what}"));
    unknown.iter().for_each(|(what, n)| println!("  not understood, {n}: {what}"));
    failed.iter().for_each(|(what, n)| println!("  not run on this host, {n}: {what}"));
    differing.iter().for_each(|(what, (n, example))| println!("  differs, {n}: {what}\n    {example}"));
    assert!(differing.is_empty());
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
    let mut machine = Machine::new(&host);
    let mut model = Model::default();
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
