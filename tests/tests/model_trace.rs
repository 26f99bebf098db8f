//! Provenance in the model of the CPU: what a run did not look at does not change it.
//!
//! `MODEL_CASES=2000 cargo test -p tests --test model_trace` tries more machines of each form.

#![allow(clippy::print_stdout, reason = "how much was compared is part of the result")]

use vmm::cpu::conform::{Form, Random, Scene, forms};
use vmm::cpu::{Access, Cpu, End, Model, Place, Provenance, Ram, Register, Traced, Untraced, inputs};

fn cases() -> u64 {
    std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// Runs up to a stop, or 40 steps.
fn run<P: Provenance>(
    model: &mut Model,
    cpu: &mut Cpu,
    ram: &mut [u8],
    p: &mut P,
    nmi: bool,
) -> (Vec<End>, Vec<Access>) {
    let limit = 40;
    let mut log = Vec::new();
    let mut mem = Ram::new(ram, &mut log);
    let mut ends = Vec::new();
    if nmi {
        ends.push(model.deliver_nmi(cpu, &mut mem, p));
    }
    while ends.len() < limit {
        let end = model.step(cpu, &mut mem, p);
        ends.push(end);
        if !matches!(end, End::Next | End::Delivered(_)) {
            break;
        }
    }
    (ends, log)
}

/// The end without the value of an OUT, which does not count as looked at.
fn without_value(end: &End) -> End {
    match end {
        End::Out { port, size, .. } => End::Out { port: *port, size: *size, value: 0 },
        end => *end,
    }
}

/// Another machine that differs wherever the trace allows it. Bits of RFLAGS that are
/// constant stay.
fn other(scene: &Scene, trace: &Traced, log: &[Access], random: &mut Random) -> (Cpu, Vec<u8>) {
    const FLAGS: u64 = 0x0dd5;
    let (mut cpu, mut ram) = (scene.cpu, scene.ram.clone());
    let mut looked = std::collections::HashMap::new();
    trace.looked().for_each(|(place, bits)| *looked.entry(place).or_insert(0) |= bits);
    let free = |place: Place| !looked.get(&place).copied().unwrap_or(0);
    for r in Register::all() {
        let mut mask = (0..8).fold(0u64, |m, i| m | u64::from(free(Place::Register(r, i))) << (8 * i));
        if r == Register::Flags {
            mask &= FLAGS;
        }
        if random.once_in(4) {
            mask &= random.word();
        }
        let value = r.value(&cpu);
        r.set(&mut cpu, value & !mask | random.word() & mask);
    }
    // All that was accessed and what is around it, and some of the rest.
    let near = log.iter().flat_map(|a| (a.paddr & !7).saturating_sub(8)..(a.paddr & !7) + 24);
    let far: Vec<u64> = (0..300).map(|_| random.below(ram.len() as u64)).collect();
    let mut places: Vec<u64> = near.chain(far).collect();
    places.sort_unstable();
    places.dedup();
    for at in places {
        if let (Some(byte), true) = (ram.get_mut(at as usize), random.once_in(2)) {
            *byte ^= random.word() as u8 & free(Place::Memory(at));
        }
    }
    (cpu, ram)
}

/// Returns whether another machine was tried.
fn check(model: &mut Model, scene: &Scene, random: &mut Random, nmi: bool, what: &str) -> bool {
    let (mut plain, mut plain_ram) = (scene.cpu, scene.ram.clone());
    let (ends, log) = run(model, &mut plain, &mut plain_ram, &mut Untraced, nmi);
    let (mut cpu, mut ram) = (scene.cpu, scene.ram.clone());
    let mut trace = Traced::new();
    assert_eq!(run(model, &mut cpu, &mut ram, &mut trace, nmi).0, ends, "{what}");
    assert!(cpu == plain && ram == plain_ram, "{what}: a traced run is another one");
    if matches!(ends.last(), Some(End::NotUnderstood(_) | End::Shutdown)) {
        return false;
    }
    trace.settle();
    let (mut like, mut like_ram) = other(scene, &trace, &log, random);
    let (first_cpu, first_ram) = (like, like_ram.clone());
    let first = inputs(&first_cpu, &first_ram);
    if !trace.alike(inputs(&scene.cpu, &scene.ram), first) {
        return false;
    }
    let expected = trace.substitute_cpu(&cpu, first);
    let written = trace.substitute_memory(|at| ram[at as usize], first);
    let mut expected_ram = first_ram.clone();
    written.into_iter().for_each(|(at, byte)| expected_ram[at as usize] = byte);
    let other_ends = run(model, &mut like, &mut like_ram, &mut Untraced, nmi).0;
    let apart = |ends: &[End]| ends.iter().map(without_value).collect::<Vec<_>>();
    assert_eq!(apart(&other_ends), apart(&ends), "{what}");
    assert_eq!(like, expected, "{what}: {:x?}", scene.cpu.regs);
    let differs = (0..ram.len()).find(|i| like_ram[*i] != expected_ram[*i]);
    assert_eq!(differs, None, "{what}: {:x?} {:x?}", scene.cpu.regs, scene.code);
    true
}

#[test]
fn what_a_form_does_not_look_at_changes_nothing_but_copies() {
    let mut model = Model::default();
    let (mut tried, mut all) = (0, 0);
    for (number, form) in (1000u64..).zip(forms()) {
        for cpl in form.cpls() {
            for case in 0..cases() {
                let mut random = Random::new(number << 32 | u64::from(cpl) << 24 | case);
                let scene = Scene::new(&form, cpl, &mut random);
                let what = format!("{} at CPL {cpl}, case {case}: {:02x?}", form.name, scene.code);
                all += 1;
                tried += u64::from(check(&mut model, &scene, &mut random, case % 5 == 0, &what));
            }
        }
    }
    println!("{tried} of {all} machines had another like them");
    assert!(tried * 2 > all);
}

#[test]
fn nor_does_what_a_path_does_not_look_at() {
    let mut model = Model::default();
    let plain: Vec<Form> = forms().filter(Form::is_plain).collect();
    let (mut tried, all) = (0, cases() * 40);
    for case in 0..all {
        let mut random = Random::new(1 << 60 | case);
        let mut some = || plain[random.below(plain.len() as u64) as usize];
        let chosen: [Form; 6] = std::array::from_fn(|_| some());
        let scene = Scene::path(&chosen[0], &chosen[1..], if case % 4 == 0 { 3 } else { 0 }, &mut random);
        let what = format!("case {case}: {:?}", chosen.map(|f| f.name));
        tried += u64::from(check(&mut model, &scene, &mut random, case % 5 == 0, &what));
    }
    println!("{tried} of {all} machines had another like them");
    assert!(tried * 3 > all);
}
