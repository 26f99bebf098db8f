//! The standing check of the explorer: entry paths that nobody has thought of are searched with all
//! reductions and with none, and must come to the same. `cargo run --release -p tests --bin mutants`
//! does it with any number.
#![allow(clippy::print_stdout, reason = "how much was compared is part of the result")]

mod common;

use common::gcc;
use tests::mutants::{self, Bounds, Error, Judge, Made, Mutant, Toolchain, changes, entry};
use vmm::explore::{Config, Reductions};
use vmm::image::Image;
use vmm::kvm::Host;

/// How many of each are searched here.
fn count(most: u64) -> u64 {
    std::env::var("MUTANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(most)
}

/// Searches mutants. Of all, at least `least` must be proved, and as many broken, both by every
/// search: otherwise nothing was compared.
fn check(mutants: impl Iterator<Item = (u64, Result<Mutant, Error>)>, least: usize) {
    let bounds = Bounds { states: 8_000, stepped: 300, on_kvm: 200, schedules: 3 };
    let judge = Judge::new(Host::open().unwrap(), bounds);
    let (mut proved, mut broken, mut unknown) = (0, 0, 0);
    let mut differences = Vec::new();
    for (seed, mutant) in mutants {
        let Ok(mutant) = mutant else {
            unknown += 1;
            continue;
        };
        let judged = judge.judge(&mutant, seed);
        match (&judged.reduced, &judged.whole) {
            (a, b) if a.is_proved() && b.is_proved() => proved += 1,
            (a, b) if a.is_broken() && b.is_broken() => broken += 1,
            _ => unknown += 1,
        }
        differences.extend(judged.difference.map(|what| format!("{}: {what}", mutant.name)));
    }
    println!("{proved} proved and {broken} broken by both, {unknown} unknown");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(proved >= least && broken >= least, "{proved} proved, {broken} broken: too little was compared");
}

#[test]
fn random_entries_are_judged_alike_with_and_without_reductions() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tools = Toolchain::new(dir.path()).unwrap();
    check((0..count(100)).map(|seed| (seed, entry(&tools, seed))), 10);
}

/// Changes of the small guest's handlers, and of a built-in scheme.
#[test]
fn changed_schemes_are_judged_alike_with_and_without_reductions() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tools = Toolchain::new(dir.path()).unwrap();
    // Where NMIs nest, the search without reductions seldom closes; what is broken is compared.
    for (made, most, least) in [(Made::Flat, 60, 3), (Made::Nested, 20, 0)] {
        let image = tools.plain(made).unwrap().guest.image.clone();
        changed(&image, "kind", "sum", most, least);
    }
    changed(&Image::builtin().unwrap(), "mainline", "quiet", 20, 0);
}

/// Checks about `most` changes of a scheme.
fn changed(image: &Image, scheme: &str, scenario: &str, most: u64, least: usize) {
    let list = changes(image, scheme).unwrap();
    let every = list.len().div_ceil(count(most) as usize).max(1);
    let chosen = list.iter().step_by(every).zip(0..);
    check(chosen.map(|(change, i)| (i, mutants::changed(change, image, scheme, scenario))), least);
}

/// A search that overlooks every read of the stacks must not come to a proof: what it holds for
/// dead holds a pattern, which changes the outcome.
#[test]
fn poison_shows_that_a_live_word_was_held_for_dead() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tools = Toolchain::new(dir.path()).unwrap();
    let judge = Judge::new(Host::open().unwrap(), Bounds::default());
    for read in ["cmpb $0, stack_low + 65", "movq $stack_low, %rsi\n xorl %eax, %eax\n addb 65(%rsi), %al"] {
        let text = format!(
            "    .text\n    .globl on_nmi\non_nmi:\n {read}\n je 1f\n movq $0xbad, 72(%rdi)\n1:  movb $1, stack_low + 65\n ret\n"
        );
        let mutant = tools.mutant(read.to_owned(), Made::Flat, false, false, text).unwrap();
        let search = |blind| judge.search(&mutant, Config { blind, ..Config::default() }).0;
        assert!(search(false).is_broken(), "{read}: {}", search(false));
        assert!(!search(true).is_proved(), "{read}: {}", search(true));
    }
}

/// Without the model, too, RSP is held to the declared stacks within a blocked chain.
#[test]
fn a_stack_pointer_that_strays_is_seen_without_the_model() {
    if !gcc::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tools = Toolchain::new(dir.path()).unwrap();
    let judge = Judge::new(Host::open().unwrap(), Bounds::default());
    let text = "    .text\n    .globl on_nmi\non_nmi:\n movq %rsp, %r11\n movq $idt, %rsp\n movq %r11, %rsp\n ret\n";
    let mutant = tools.mutant("astray".to_owned(), Made::Flat, false, false, text.to_owned()).unwrap();
    for model in [true, false] {
        let reductions = Reductions { model, ..Reductions::default() };
        let (found, _) = judge.search(&mutant, Config { reductions, cross_check: 0, ..Config::default() });
        assert!(found.is_broken(), "model {model}: {found}");
    }
}
