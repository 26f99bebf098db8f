//! One target for each parser of what somebody else wrote, and for the contract with a guest.
//!
//! A target takes any bytes. It must not panic, hang, or take more memory than its limits say; that
//! is all that it is asked for. `tests/fuzz.rs` runs each over its corpus and some changes of it;
//! the program `fuzz` takes their number as an argument; `fuzz/` is the same for cargo-fuzz, which
//! needs a nightly toolchain.

mod contract;
mod targets;

use std::path::PathBuf;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its folder of `fuzz/corpus`, too.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Where it begins, besides the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs it gets for each thousand of a round: fewer where one takes longer.
    pub weight: u64,
}

pub use targets::TARGETS;

/// The target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

impl Target {
    /// Its seeds, and the files of its corpus in the order of their names.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(self.name);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(dir).map(|all| all.flatten().map(|e| e.path()).collect()).unwrap_or_default();
        files.sort();
        (self.seeds)().into_iter().chain(files.iter().filter_map(|file| std::fs::read(file).ok())).collect()
    }
}

/// Numbers that are the same for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }
}

/// Values that are often limits of something.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x8000_0000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
    u64::MAX - 0xfff,
];

/// Most bytes of an input.
const MOST: usize = 1 << 20;

/// An input from one of the corpus, changed in a few places; seldom a wholly random one.
pub fn input(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = match corpus {
        [] => Vec::new(),
        _ => corpus[random.below(corpus.len())].clone(),
    };
    if bytes.is_empty() || random.below(64) == 0 {
        bytes = (0..random.below(200)).map(|_| random.word() as u8).collect();
    }
    for _ in 0..1 + random.below(8) {
        change(&mut bytes, corpus, random);
    }
    bytes.truncate(MOST);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len().max(1)).min(bytes.len());
    let end = (at + 1 + random.below(32)).min(bytes.len());
    match random.below(9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let part = bytes[at..end].to_vec();
            let times = 1 + random.below(4);
            bytes.splice(at..at, part.repeat(times));
        }
        3 => bytes.insert(at, random.word() as u8),
        4 if !corpus.is_empty() => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len().max(1)).min(other.len());
            let to = (from + 1 + random.below(64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        5 => {
            let size = 1 << random.below(4);
            let value = EDGES[random.below(EDGES.len())].to_le_bytes();
            let to = (at + size).min(bytes.len());
            bytes[at..to].copy_from_slice(&value[..to - at]);
        }
        6 => {
            // A number in a text becomes another.
            let digits = EDGES[random.below(EDGES.len())].to_string();
            bytes.splice(at..(at + 1).min(bytes.len()), digits.bytes());
        }
        7 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        _ if at < bytes.len() => bytes[at] = random.word() as u8,
        _ => {}
    }
}
