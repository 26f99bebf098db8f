//! Every fuzz target over its corpus, and some thousand changes of it: a bounded part of what the
//! program `fuzz` and cargo-fuzz do without end.

use std::time::{Duration, Instant};

use tests::fuzz::{Random, TARGETS, input, target};

/// Inputs of the target with the largest weight.
const INPUTS: u64 = 6000;
/// A debug build on a busy machine, and still no hang.
const SLOW: Duration = Duration::from_secs(10);

#[test]
fn no_input_panics_or_hangs() {
    let heaviest = TARGETS.iter().map(|t| t.weight).max().unwrap();
    for target in TARGETS {
        let (corpus, mut random) = (target.corpus(), Random(7));
        let changed = (0..INPUTS * target.weight / heaviest).map(|_| input(&corpus, &mut random)).collect::<Vec<_>>();
        for bytes in corpus.iter().chain(&changed) {
            let begin = Instant::now();
            (target.run)(bytes);
            assert!(begin.elapsed() < SLOW, "{}: {:?} for {bytes:02x?}", target.name, begin.elapsed());
        }
    }
}

/// Each target is one of cargo-fuzz, too.
#[test]
fn cargo_fuzz_has_every_target() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");
    let manifest = std::fs::read_to_string(format!("{dir}/Cargo.toml")).unwrap();
    for target in TARGETS {
        let text = std::fs::read_to_string(format!("{dir}/fuzz_targets/{}.rs", target.name)).unwrap();
        assert!(text.contains(&format!("\"{}\"", target.name)), "{text}");
        assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)), "{}", target.name);
    }
    assert!(target("image").is_some() && target("nothing").is_none());
}
