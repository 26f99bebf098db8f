//! Runs fuzz targets: `fuzz INPUTS [SECONDS [TARGET…]]` shares so many inputs out to the targets,
//! for so many seconds each at most. Prints what came of each, and exits with 1 where one panicked
//! or took more than a second of CPU time; the input is then in `fuzz/artifacts`.
#![allow(clippy::print_stdout, reason = "what came of it is the result")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tests::fuzz::{Random, TARGETS, Target, input};

const SLOW: Duration = Duration::from_secs(1);
/// Inputs that are kept of one target.
const KEPT: usize = 20;

/// CPU time of this thread: what else runs on the machine is not counted.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[derive(Default)]
struct Count {
    inputs: u64,
    panics: u64,
    slow: u64,
}

fn fuzz(target: &Target, inputs: u64, limit: Duration, seed: u64) -> Count {
    let corpus = target.corpus();
    let (mut count, mut random, begin) = (Count::default(), Random(seed), Instant::now());
    let mut kept = 0;
    while count.inputs < inputs && begin.elapsed() < limit {
        let bytes = match corpus.get(count.inputs as usize) {
            Some(seed) => seed.clone(),
            None => input(&corpus, &mut random),
        };
        let one = cpu_time();
        let panicked = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err();
        let slow = cpu_time().saturating_sub(one) > SLOW;
        count.inputs += 1;
        count.panics += u64::from(panicked);
        count.slow += u64::from(slow);
        if (panicked || slow) && kept < KEPT {
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/artifacts").join(target.name);
            let name = format!("{}-{}", if panicked { "panic" } else { "slow" }, count.inputs);
            let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join(name), &bytes));
            kept += usize::from(written.is_ok());
        }
    }
    count
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let inputs: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let limit = Duration::from_secs(args.next().and_then(|n| n.parse().ok()).unwrap_or(60));
    let only: Vec<String> = args.collect();
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let chosen = || TARGETS.iter().filter(|t| only.is_empty() || only.iter().any(|name| name == t.name));
    let weights: u64 = chosen().map(|t| t.weight).sum();
    let mut bad = 0;
    for target in chosen() {
        let begin = Instant::now();
        let count = fuzz(target, (inputs * target.weight).div_ceil(weights), limit, seed);
        println!(
            "{:<16} {:>9} inputs, {} panics, {} over a second, {:.1} s",
            target.name,
            count.inputs,
            count.panics,
            count.slow,
            begin.elapsed().as_secs_f64()
        );
        bad += count.panics + count.slow;
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
