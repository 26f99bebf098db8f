//! Searches mutants with and without reductions, any number of them, and says where the searches
//! contradict one another. `tests/tests/mutants.rs` does the same with a few hundred.
//!
//! ```console
//! $ cargo run --release -p tests --bin mutants -- entries 0 1000
//! $ cargo run --release -p tests --bin mutants -- changes mainline quiet 0 200
//! $ cargo run --release -p tests --bin mutants -- show 17
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool of the tests'")]

use std::process::ExitCode;

use tests::mutants::{Bounds, Judge, Mutant, Toolchain, changed, changes, entry};
use vmm::cpu::conform::Random;
use vmm::image::Image;
use vmm::kvm::Host;

const USAGE: &str =
    "usage: mutants entries FIRST COUNT | mutants changes SCHEME SCENARIO FIRST COUNT | mutants show SEED
FIRST is a seed; the mutants of COUNT seeds from there on are searched.";

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match carry_out(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("mutants: {e}");
            ExitCode::from(64)
        }
    }
}

fn carry_out(args: &[&str]) -> Result<bool, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    match *args {
        ["show", seed] => {
            let tools = Toolchain::new(dir.path())?;
            let mutant = entry(&tools, seed.parse()?)?;
            println!("# {}\n{}", mutant.name, mutant.text);
            Ok(true)
        }
        ["save", seed, to] => {
            let tools = Toolchain::new(dir.path())?;
            let mutant = entry(&tools, seed.parse()?)?;
            std::fs::write(to, mutant.guest.image.bytes())?;
            Ok(true)
        }
        ["entries", first, count] => {
            let tools = Toolchain::new(dir.path())?;
            let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
            search((first..first + count).map(|seed| (seed, entry(&tools, seed))))
        }
        ["changes", scheme, scenario, first, count] => {
            let image = Image::builtin()?;
            let list = changes(&image, scheme)?;
            println!("{} changes of {scheme}", list.len());
            let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
            search((first..first + count).map(|seed| {
                let change = &list[Random::new(seed).below(list.len() as u64) as usize];
                (seed, changed(change, &image, scheme, scenario))
            }))
        }
        _ => Err(USAGE.into()),
    }
}

fn search(
    mutants: impl Iterator<Item = (u64, Result<Mutant, tests::mutants::Error>)>,
) -> Result<bool, Box<dyn std::error::Error>> {
    let mut bounds = Bounds::default();
    if let Ok(states) = std::env::var("MUTANTS_STATES") {
        bounds.states = states.parse()?;
    }
    if let Ok(states) = std::env::var("MUTANTS_ON_KVM") {
        bounds.on_kvm = states.parse()?;
    }
    let judge = Judge::new(Host::open()?, bounds);
    let (mut proved, mut broken, mut unknown, mut wrong) = (0, 0, 0, 0);
    for (seed, mutant) in mutants {
        let mutant = match mutant {
            Ok(mutant) => mutant,
            Err(e) => {
                println!("{seed}: not made: {e}");
                unknown += 1;
                continue;
            }
        };
        let began = std::time::Instant::now();
        let judged = judge.judge(&mutant, seed);
        match (&judged.reduced, &judged.whole) {
            (a, b) if a.is_proved() && b.is_proved() => proved += 1,
            (a, b) if a.is_broken() && b.is_broken() => broken += 1,
            _ => unknown += 1,
        }
        if std::env::var_os("MUTANTS_TALK").is_some() {
            println!(
                "{} ({:.1} s)\n  reduced {}\n  whole   {}",
                mutant.name,
                began.elapsed().as_secs_f64(),
                judged.reduced,
                judged.whole
            );
            for (name, other) in &judged.others {
                println!("  {name}: {other}");
            }
        }
        if let Some(difference) = judged.difference {
            wrong += 1;
            println!("*** {}\n    {difference}", mutant.name);
        }
    }
    println!("{proved} proved and {broken} broken by both, {unknown} unknown; {wrong} contradictions");
    Ok(wrong == 0)
}
