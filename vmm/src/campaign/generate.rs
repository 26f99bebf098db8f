//! How a campaign generates its schedules, and where it places their events.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inject::Kind;
use toml::Value;

/// How schedules are generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generate {
    /// Up to so many NMIs in a run, each at every boundary that follows the last.
    Depth(usize),
    /// The schedules that the file lists.
    Schedules(Vec<String>),
    /// Drawn at random.
    Random(Random),
    /// None: the explorer searches every pattern, until nothing new appears.
    Closure(Closure),
}

/// How far the explorer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Closure {
    /// A search that finds more states gives up.
    pub max_states: usize,
    /// What may arrive, by the names that schedules write.
    #[serde(skip_serializing_if = "only_nmis")]
    pub events: Vec<Kind>,
}

impl Default for Closure {
    fn default() -> Self {
        Self { max_states: 20_000_000, events: vec![Kind::Nmi] }
    }
}

fn only_nmis(events: &Vec<Kind>) -> bool {
    *events == [Kind::Nmi]
}

impl Closure {
    /// Refuses a search in which nothing could be found.
    fn check(&self) -> Result<(), String> {
        if self.max_states == 0 {
            return Err("closure: max_states is 0".into());
        }
        if !self.events.contains(&Kind::Nmi) {
            return Err("closure: events has no nmi; without NMIs there is nothing to explore".into());
        }
        match self.events.iter().find(|kind| !Kind::IN_SCENARIOS.contains(kind)) {
            Some(kind) => Err(format!("closure: events has {kind}, which only a real kernel can be given")),
            None => Ok(()),
        }
    }
}

/// Schedules drawn at random, the same ones for the same seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// How many, for each scheme and scenario.
    pub count: u64,
    /// Where the drawing starts.
    pub seed: u64,
    /// Most NMIs in a schedule.
    #[serde(default = "two")]
    pub max_nmis: usize,
}

fn two() -> usize {
    2
}

/// Most NMIs in a schedule; more is the explorer's work.
const MAX_DEPTH: usize = 4;

/// Most random schedules of a scheme and scenario: all of them are held in memory.
const MOST_RANDOM: u64 = 1_000_000;

/// A restriction of the boundaries at which NMIs are placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Labels (or patterns with `*`) at which the first NMI arrives; everywhere where empty.
    #[serde(default)]
    pub first: Vec<String>,
    /// Only every so many golden boundaries get a first NMI.
    #[serde(default = "one")]
    pub first_every: usize,
    /// Labels (or patterns) at which the later NMIs arrive; everywhere where empty.
    #[serde(default)]
    pub around: Vec<String>,
    /// So many instructions before and behind those of `around` count as well.
    #[serde(default)]
    pub within: usize,
}

fn one() -> usize {
    1
}

impl Window {
    /// Refuses what would have no effect, or leave nothing to run.
    pub fn check(&self, generate: &Generate) -> Result<(), String> {
        if self.first_every == 0 {
            return Err("first_every counts from 1".into());
        }
        if self.within > 0 && self.around.is_empty() {
            return Err("within = … widens around = [labels], which is missing".into());
        }
        match generate {
            Generate::Depth(1) if !self.around.is_empty() => {
                Err("around = … is about the second and later NMIs, and generate has one; write first = […]".into())
            }
            Generate::Schedules(_) => Err("generate = {schedules = …} says itself where events are".into()),
            Generate::Closure(_) => Err("generate = \"closure\" covers every boundary".into()),
            _ => Ok(()),
        }
    }
}

impl Generate {
    /// Reads the value of `generate`.
    pub fn read(value: &Value) -> Result<Self, String> {
        const KNOWN: &str = "there are: \"points\", \"pairs\", \"closure\", {closure = {max_states = n}}, {depth = n}, {schedules = [\"…\"]}, {random = {count = n, seed = n}}";
        match value {
            Value::String(s) => match s.as_str() {
                "points" => Ok(Generate::Depth(1)),
                "pairs" => Ok(Generate::Depth(2)),
                "closure" => Ok(Generate::Closure(Closure::default())),
                other => Err(format!("{other:?} is not known; {KNOWN}")),
            },
            Value::Table(table) if table.len() == 1 => {
                let (key, value) = table.iter().next().ok_or(KNOWN)?;
                Self::read_table(key, value).unwrap_or_else(|| Err(format!("{key:?} is not known; {KNOWN}")))
            }
            _ => Err(KNOWN.into()),
        }
    }

    fn read_table(key: &str, value: &Value) -> Option<Result<Self, String>> {
        Some(match key {
            "depth" => match value.as_integer().and_then(|n| usize::try_from(n).ok()) {
                Some(n) if (1..=MAX_DEPTH).contains(&n) => Ok(Generate::Depth(n)),
                _ => Err(format!("depth is a number from 1 to {MAX_DEPTH}")),
            },
            "schedules" => match Vec::<String>::deserialize(value.clone()) {
                Ok(list) if !list.is_empty() => Ok(Generate::Schedules(list)),
                _ => Err("schedules is a list of strings, as [\"nmi@exit_iret#1\"]".into()),
            },
            "closure" => match Closure::deserialize(value.clone()) {
                Ok(closure) => closure.check().map(|()| Generate::Closure(closure)),
                Err(e) => Err(format!("closure: {}", e.message().trim())),
            },
            "random" => match Random::deserialize(value.clone()) {
                Err(e) => Err(format!("random: {}", e.message().trim())),
                Ok(r) if r.count == 0 => Err("random: count is 0".into()),
                Ok(r) if r.count > MOST_RANDOM => Err(format!(
                    "random: count is {}, and {MOST_RANDOM} is the most for each scheme and scenario",
                    r.count
                )),
                Ok(r) if !(1..=MAX_DEPTH).contains(&r.max_nmis) => {
                    Err(format!("random: max_nmis is a number from 1 to {MAX_DEPTH}"))
                }
                Ok(r) => Ok(Generate::Random(r)),
            },
            _ => return None,
        })
    }
}

impl fmt::Display for Generate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Generate::Depth(1) => f.write_str("one NMI at every boundary"),
            Generate::Depth(2) => f.write_str("one NMI at every boundary, a second at every boundary that follows"),
            Generate::Depth(n) => write!(f, "up to {n} NMIs, each at every boundary that follows the last"),
            Generate::Closure(closure) => {
                let more = closure.events.iter().filter(|kind| **kind != Kind::Nmi).map(|kind| format!(" and {kind}"));
                let more: String = more.collect();
                write!(f, "every pattern of NMIs{more}, until nothing new appears; a case is a state")
            }
            Generate::Schedules(list) if list.len() == 1 => f.write_str("one schedule"),
            Generate::Schedules(list) => write!(f, "{} schedules", list.len()),
            Generate::Random(r) => {
                write!(f, "{} random schedules of up to {} NMIs, seed {}", r.count, r.max_nmis, r.seed)
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (self.first.as_slice(), self.first_every) {
            ([], 1) => {}
            ([], n) => parts.push(format!("the first at every {n}th golden boundary")),
            (labels, 1) => parts.push(format!("the first at {}", labels.join(", "))),
            (labels, n) => parts.push(format!("the first at every {n}th boundary of {}", labels.join(", "))),
        }
        if !self.around.is_empty() {
            let within = if self.within > 0 { format!(" ± {}", self.within) } else { String::new() };
            parts.push(format!("later ones around {}{within}", self.around.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

/// The random schedules that begin at each of `boundaries` golden boundaries: for each
/// boundary a list of schedules, each the gaps between its NMIs in boundaries.
pub fn draw(random: &Random, stream: u64, boundaries: usize) -> Vec<Vec<Vec<u32>>> {
    let mut out = vec![Vec::new(); boundaries];
    let mut state = SplitMix(random.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if boundaries == 0 {
        return out;
    }
    for _ in 0..random.count {
        let first = state.below(boundaries as u64) as usize;
        let more = state.below(random.max_nmis as u64);
        // Short gaps as often as long ones: what nests badly is close together.
        let gaps = (0..more).map(|_| {
            let bits = state.below(10);
            (state.next() & ((1 << bits) - 1)) as u32 + 1
        });
        out[first].push(gaps.collect());
    }
    out
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// Whether `text` fits `pattern`, where `*` stands for any characters.
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty(); // no `*` at all
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [("a", "a"), ("*", ""), ("exit_*", "exit_iret"), ("*_i*t", "exit_iret"), ("a**b", "ab")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("exit_*", "exit"), ("ab*ba", "aba"), ("", "a"), ("*x*", "abc")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn drawing_is_the_same_for_the_same_seed_and_another_for_another() {
        let random = Random { count: 100, seed: 7, max_nmis: 3 };
        let drawn = draw(&random, 1, 50);
        assert_eq!(drawn, draw(&random, 1, 50));
        assert_ne!(drawn, draw(&random, 2, 50));
        assert_ne!(drawn, draw(&Random { seed: 8, ..random }, 1, 50));
        assert_eq!(drawn.iter().map(Vec::len).sum::<usize>(), 100);
        assert!(drawn.iter().flatten().all(|gaps| gaps.len() < 3 && gaps.iter().all(|g| *g >= 1)));
    }

    #[test]
    fn windows_that_say_nothing_are_refused() {
        let window = Window { first: vec![], first_every: 1, around: vec![], within: 3 };
        assert!(window.check(&Generate::Depth(2)).unwrap_err().contains("around"));
        let window = Window { around: vec!["x".into()], ..window };
        assert!(window.check(&Generate::Depth(2)).is_ok());
        assert!(window.check(&Generate::Depth(1)).unwrap_err().contains("first"));
    }
}
