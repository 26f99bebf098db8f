//! How the cases ended in which an NMI arrived at an instruction.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::inject::{Event, Kind};
use crate::oracle::VerdictKind;

/// For each verdict the instructions, and how many cases with an NMI there came to it. Two can be
/// added in any order, with the same result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Kept>", into = "Vec<Kept>")]
pub struct Ended(BTreeMap<VerdictKind, BTreeMap<u64, u64>>);

/// As results keep it: a verdict, and for each instruction its distance from the one before, and its
/// cases.
type Kept = (VerdictKind, Vec<(u64, u64)>);

impl Ended {
    /// Adds one case. Several NMIs at one instruction are one case there.
    pub fn note(&mut self, verdict: VerdictKind, events: &[Event]) {
        let places = self.0.entry(verdict).or_default();
        let nmis: BTreeSet<u64> = events.iter().filter(|e| e.kind == Kind::Nmi).map(|e| e.at.addr).collect();
        nmis.into_iter().for_each(|addr| *places.entry(addr).or_default() += 1);
    }

    /// Adds what other cases came to.
    pub fn merge(&mut self, other: &Self) {
        for (verdict, theirs) in &other.0 {
            let ours = self.0.entry(*verdict).or_default();
            theirs.iter().for_each(|(addr, cases)| *ours.entry(*addr).or_default() += cases);
        }
    }

    /// Each verdict that cases with an NMI at this instruction came to, and how many they are.
    pub fn at(&self, addr: u64) -> impl Iterator<Item = (VerdictKind, u64)> + '_ {
        self.0.iter().filter_map(move |(verdict, places)| Some((*verdict, *places.get(&addr)?)))
    }

    /// Whether no NMI arrived anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// Whether no instruction has more than so many cases.
    pub(super) fn is_within(&self, cases: u64) -> bool {
        self.0.values().flat_map(BTreeMap::values).all(|n| *n <= cases)
    }
}

impl From<Ended> for Vec<Kept> {
    fn from(ended: Ended) -> Self {
        let gaps = |places: BTreeMap<u64, u64>| {
            let before = std::iter::once(0).chain(places.keys().copied().collect::<Vec<_>>());
            before.zip(places).map(|(before, (addr, cases))| (addr - before, cases)).collect()
        };
        ended.0.into_iter().map(|(verdict, places)| (verdict, gaps(places))).collect()
    }
}

impl TryFrom<Vec<Kept>> for Ended {
    type Error = &'static str;

    fn try_from(kept: Vec<Kept>) -> Result<Self, Self::Error> {
        let mut ended = BTreeMap::new();
        for (verdict, gaps) in kept {
            let (mut addr, mut places) = (0u64, BTreeMap::new());
            for (gap, cases) in gaps {
                addr = addr.checked_add(gap).ok_or("an instruction lies beyond the last address")?;
                places.insert(addr, cases);
            }
            ended.insert(verdict, places);
        }
        Ok(Self(ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::At;
    use crate::oracle::Word;

    #[test]
    fn cases_are_counted_where_their_nmis_arrive() {
        let at = |kind, addr, n| Event { kind, at: At { addr, n } };
        let livelock = VerdictKind { verdict: Word::Livelock, invariant: None };
        let mut ended = Ended::default();
        assert!(ended.is_empty());
        ended.note(VerdictKind::PASS, &[at(Kind::Nmi, 16, 1), at(Kind::Nmi, 16, 2), at(Kind::Unmask, 24, 1)]);
        ended.note(livelock, &[at(Kind::Nmi, 16, 1), at(Kind::Nmi, u64::MAX, 1)]);
        assert_eq!(ended.at(16).collect::<Vec<_>>(), [(VerdictKind::PASS, 1), (livelock, 1)]);
        assert_eq!(ended.at(24).count(), 0, "no NMI arrives there");
        let text = serde_json::to_string(&ended).unwrap();
        assert!(text.contains("[[16,1],[18446744073709551599,1]]"), "{text}");
        assert_eq!(serde_json::from_str::<Ended>(&text).unwrap(), ended);
        assert!(serde_json::from_str::<Ended>(&text.replace("[16,1],", "[17,1],")).is_err());
        let mut twice = ended.clone();
        twice.merge(&ended);
        assert_eq!(twice.at(16).collect::<Vec<_>>(), [(VerdictKind::PASS, 2), (livelock, 2)]);
        assert!(ended.is_within(1) && !twice.is_within(1));
    }
}
