//! What came of cases: counts, and for each kind of failure its shortest schedule.
//! Tallies can be added in any order, with the same result.

use std::collections::BTreeMap;

use super::ended::Ended;
use crate::folder::Record;
use crate::inject::coverage::Coverage;
use crate::inject::{Again, Schedule};
use crate::oracle::{Verdict, VerdictKind, Word};

/// Which of two cases is the better witness: the one with fewer events, then the one
/// that comes first in the order of the golden run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Rank {
    /// Events in the schedule.
    pub events: usize,
    /// The unit of work it belongs to.
    pub unit: u64,
    /// Its number in the unit.
    pub index: u64,
}

/// A kind of failure that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// What it is.
    #[serde(flatten)]
    pub kind: VerdictKind,
    /// Cases that failed so.
    pub cases: u64,
    /// Of the witness.
    pub rank: Rank,
    /// The schedule with the lowest rank that shows it.
    pub schedule: String,
    /// What the witness's verdict says.
    pub detail: String,
}

/// Two gears that came to different verdicts on one schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Disagreement {
    /// The schedule.
    pub schedule: String,
    /// Each gear with its verdict, in words.
    pub verdicts: Vec<(String, String)>,
}

/// What came of a set of cases.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// How many cases were run.
    pub cases: u64,
    /// How many cases came to each verdict.
    pub counts: BTreeMap<Word, u64>,
    /// Each kind of failure, sorted by kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Found>,
    /// Cases that passed and were stepped whole. Of the others a free run saw the stops alone:
    /// what holds at every boundary (I9, I15) was not asked between them.
    #[serde(default)]
    pub stepped: u64,
    /// Cases that were run again in another gear.
    pub rechecked: u64,
    /// Those that came to another verdict, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<Disagreement>,
    /// Where NMIs arrived, and where execution was seen to stand besides (I20).
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub coverage: Coverage,
    /// A place in the code at which a case read time or randomness: what came of it may be otherwise
    /// another time. Of several, the first by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_time: Option<String>,
    /// SMIs of its cases were played by the lab, and not raised in KVM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smi_played: bool,
    /// How the cases ended that had an NMI at an instruction; a search has none.
    #[serde(default, skip_serializing_if = "Ended::is_empty")]
    pub ended: Ended,
    /// A search closed: there is nothing besides what it saw.
    #[serde(default)]
    pub closed: bool,
}

impl Tally {
    /// Adds one case. Its schedule is turned into words only where it is a witness.
    pub fn add(&mut self, verdict: &Verdict, rank: Rank, schedule: impl FnOnce() -> String) {
        self.cases += 1;
        self.count(verdict, rank, schedule);
    }

    fn count(&mut self, verdict: &Verdict, rank: Rank, schedule: impl FnOnce() -> String) {
        *self.counts.entry(verdict.kind().verdict).or_default() += 1;
        if verdict.is_pass() {
            return;
        }
        let kind = verdict.kind();
        let i = match self.failures.binary_search_by(|f| f.kind.cmp(&kind)) {
            Ok(i) => i,
            Err(i) => {
                let found = Found { kind, cases: 1, rank, schedule: schedule(), detail: verdict.detail().to_owned() };
                return self.failures.insert(i, found);
            }
        };
        let found = &mut self.failures[i];
        found.cases += 1;
        if rank < found.rank {
            (found.rank, found.schedule, found.detail) = (rank, schedule(), verdict.detail().to_owned());
        }
    }

    /// Cases that passed.
    pub fn passed(&self) -> u64 {
        self.counts.get(&Word::Pass).copied().unwrap_or(0)
    }

    /// Cases that passed and were not stepped whole.
    pub fn not_stepped(&self) -> u64 {
        self.passed().saturating_sub(self.stepped)
    }

    /// Adds cases that passed.
    pub fn add_passes(&mut self, cases: u64) {
        self.cases += cases;
        *self.counts.entry(Word::Pass).or_default() += cases;
    }

    /// A case that was added was run again in the arm gear. One that passed and is contradicted
    /// is no pass: it counts as what was seen. Returns what it counts as.
    pub fn recheck(
        &mut self,
        verdict: &Verdict,
        again: &Again,
        rank: Rank,
        schedule: impl Fn() -> String,
    ) -> VerdictKind {
        self.rechecked += 1;
        let (words, others) = (verdict.to_string(), again.to_string());
        let mut counts_as = verdict.kind();
        if words == others {
            return counts_as;
        }
        if verdict.is_pass() {
            if let Some(passes) = self.counts.get_mut(&Word::Pass) {
                *passes = passes.saturating_sub(1);
            }
            let seen = match again {
                Again::Judged(seen) => seen.clone(),
                Again::NeverReached(why) => Verdict::HostLimit { why: format!("run again by real NMIs: {why}") },
            };
            self.count(&seen, rank, &schedule);
            counts_as = seen.kind();
        }
        let verdicts = vec![("jump".to_owned(), words), ("arm".to_owned(), others)];
        self.disagreements.push(Disagreement { schedule: schedule(), verdicts });
        self.disagreements.sort();
        counts_as
    }

    /// So many cases that passed.
    pub fn passes(cases: u64) -> Self {
        let mut tally = Self::default();
        tally.add_passes(cases);
        tally
    }

    /// Adds what another set of cases came to.
    pub fn merge(&mut self, other: &Tally) {
        self.cases += other.cases;
        self.rechecked += other.rechecked;
        self.stepped += other.stepped;
        for (word, n) in &other.counts {
            *self.counts.entry(*word).or_default() += n;
        }
        for theirs in &other.failures {
            match self.failures.binary_search_by(|f| f.kind.cmp(&theirs.kind)) {
                Err(i) => self.failures.insert(i, theirs.clone()),
                Ok(i) => {
                    let cases = self.failures[i].cases + theirs.cases;
                    if theirs.rank < self.failures[i].rank {
                        self.failures[i] = theirs.clone();
                    }
                    self.failures[i].cases = cases;
                }
            }
        }
        self.disagreements.extend(other.disagreements.iter().cloned());
        self.disagreements.sort();
        self.coverage.merge(&other.coverage);
        self.ended.merge(&other.ended);
        self.closed |= other.closed;
        self.smi_played |= other.smi_played;
        self.reads_time = self.reads_time.iter().chain(&other.reads_time).min().cloned();
    }

    /// The failure that stands for all: the one with the best witness. What the host
    /// cannot show stands for a set only where nothing worse was found.
    pub fn worst(&self) -> Option<&Found> {
        self.failures.iter().min_by_key(|f| (f.kind.verdict == Word::HostLimit, f.rank))
    }
}

impl Record for Tally {
    /// Whether its counts add up, and are so small that no sum over units can overflow: what a
    /// file says need not have been counted.
    fn is_plausible(&self) -> bool {
        const MOST_CASES: u64 = 1 << 36;
        let counted: u128 = self.counts.values().map(|n| u128::from(*n)).sum();
        let failed: u128 = self.failures.iter().map(|f| u128::from(f.cases)).sum();
        let cases = u128::from(self.cases);
        self.cases <= MOST_CASES
            && counted == cases
            && failed <= cases
            && self.rechecked.max(self.stepped) <= MOST_CASES
            && self.ended.is_within(self.cases)
    }
}

/// The words of a schedule.
pub fn words(events: &[crate::inject::Event], names: crate::image::Names) -> String {
    Schedule(events.to_vec()).show(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Invariant;

    fn violation(invariant: Invariant) -> Verdict {
        Verdict::Violation { invariant, detail: format!("{invariant} broke") }
    }

    fn rank(events: usize, unit: u64) -> Rank {
        Rank { events, unit, index: 0 }
    }

    #[test]
    fn the_witness_has_fewest_events_then_comes_first() {
        let mut t = Tally::default();
        t.add(&violation(Invariant::NoReentry), rank(2, 1), || "a".into());
        t.add(&violation(Invariant::NoReentry), rank(1, 9), || "b".into());
        t.add(&violation(Invariant::NoReentry), rank(1, 10), || "c".into());
        t.add(&violation(Invariant::Provenance), rank(1, 8), || "d".into());
        t.add(&Verdict::HostLimit { why: "no".into() }, rank(1, 0), || "e".into());
        t.add(&Verdict::Pass, rank(1, 0), || unreachable!());
        let five = t.failures.iter().find(|f| f.kind.invariant == Some(Invariant::NoReentry)).unwrap();
        assert_eq!((five.cases, five.schedule.as_str()), (3, "b"));
        assert_eq!(t.worst().unwrap().schedule, "d");
        assert_eq!((t.cases, t.counts[&Word::Pass]), (6, 1));
    }

    #[test]
    fn a_tally_survives_json() {
        let mut t = Tally::default();
        let kind =
            crate::inject::coverage::Kind { cpl: 3, kernel_gs: true, stack: Some(1), blocked: false, pending: true };
        t.coverage.note(crate::inject::coverage::Stand { rip: !0, kind, shadow: false }, true);
        t.add(&violation(Invariant::NoReentry), rank(2, 1), || "a".into());
        let nmi = crate::inject::Event { kind: crate::inject::Kind::Nmi, at: crate::inject::At { addr: 7, n: 1 } };
        t.ended.note(violation(Invariant::NoReentry).kind(), &[nmi]);
        t.recheck(&violation(Invariant::NoReentry), &Again::Judged(Verdict::Pass), rank(2, 1), || "a".into());
        let text = serde_json::to_string(&t).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), t);
    }

    #[test]
    fn a_pass_that_is_contradicted_is_none() {
        let recheck = |first: Verdict, again: Again| {
            let mut t = Tally::default();
            t.add(&first, rank(1, 0), || "a".into());
            let counts_as = t.recheck(&first, &again, rank(1, 0), || "a".into());
            assert_eq!((t.cases, t.counts.get(&counts_as.verdict)), (1, Some(&1)));
            (t.worst().map(|f| f.kind.verdict), t.disagreements.len())
        };
        let broke = || violation(Invariant::Context);
        assert_eq!(recheck(Verdict::Pass, Again::Judged(Verdict::Pass)), (None, 0));
        assert_eq!(recheck(Verdict::Pass, Again::Judged(broke())), (Some(Word::Violation), 1));
        assert_eq!(recheck(Verdict::Pass, Again::NeverReached("so".into())), (Some(Word::HostLimit), 1));
        assert_eq!(recheck(broke(), Again::Judged(Verdict::Pass)), (Some(Word::Violation), 1));
    }

    #[test]
    fn counts_that_could_not_have_been_counted_are_refused() {
        for (cases, passes, plausible) in [(3, 3, true), (u64::MAX, u64::MAX, false), (3, 2, false), (0, 1, false)] {
            let mut tally = Tally::passes(passes);
            tally.cases = cases;
            assert_eq!(tally.is_plausible(), plausible, "{cases} {passes}");
        }
    }
}
