//! Parsers never panic and read what they write; results can be added in any order.

use proptest::collection::vec;
use proptest::prelude::*;
use vmm::campaign::{Campaign, Rank, Tally};
use vmm::folder::Shard;
use vmm::image::Names;
use vmm::image::{Guest, Image, Mode};
use vmm::inject::{Again, Replay, Schedule};
use vmm::machine::Knobs;
use vmm::machine::hv_bug::HvBug;
use vmm::oracle::{Expectation, Invariant, Verdict};

fn guest() -> &'static Guest {
    use std::sync::{Arc, OnceLock};
    static GUEST: OnceLock<Arc<Guest>> = OnceLock::new();
    GUEST.get_or_init(|| Guest::new(Image::builtin().unwrap()))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let detail = "[a-z ]{0,9}";
    prop_oneof![
        Just(Verdict::Pass),
        (prop_oneof![Just(Invariant::NoReentry), Just(Invariant::Context), Just(Invariant::Provenance)], detail)
            .prop_map(|(invariant, detail)| Verdict::Violation { invariant, detail }),
        detail.prop_map(|detail| Verdict::Livelock { detail }),
        detail.prop_map(|detail| Verdict::Shutdown { detail }),
        detail.prop_map(|why| Verdict::HostLimit { why }),
    ]
}

/// Tallies of several units, with cases of all kinds.
fn tallies() -> impl Strategy<Value = Vec<Tally>> {
    vec(vec((verdict(), 1usize..4, any::<bool>()), 0..6), 0..6).prop_map(|units| {
        let tally = |(unit, cases): (usize, Vec<(Verdict, usize, bool)>)| {
            let mut t = Tally::default();
            for (index, (verdict, events, again)) in cases.iter().enumerate() {
                let rank = Rank { events: *events, unit: unit as u64, index: index as u64 };
                t.add(verdict, rank, || format!("s{unit}.{index}"));
                if *again {
                    t.recheck(verdict, &Again::Judged(Verdict::Pass), rank, || format!("s{unit}.{index}"));
                }
            }
            t
        };
        units.into_iter().enumerate().map(tally).collect()
    })
}

fn sum<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Tally {
    let mut total = Tally::default();
    tallies.into_iter().for_each(|t| total.merge(t));
    total
}

proptest! {
    // A failure's seed is printed; a file of old ones would have no place in this layout.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tallies_add_up_the_same_in_any_order(tallies in tallies(), cut in 0usize..6) {
        let forward = sum(&tallies);
        prop_assert_eq!(&forward, &sum(tallies.iter().rev()));
        let (left, right) = tallies.split_at(cut.min(tallies.len()));
        prop_assert_eq!(&forward, &sum([&sum(left), &sum(right)]));
        let text = serde_json::to_string(&forward).unwrap();
        prop_assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), forward);
    }

    #[test]
    fn a_schedule_of_real_boundaries_is_written_as_it_is_read(picks in vec((any::<prop::sample::Index>(), 1u32..99, any::<bool>()), 0..5)) {
        let guest = guest();
        let addresses: Vec<u64> = guest.code.iter().map(|d| d.insn.ip()).collect();
        for scheme in &guest.image.declared.schemes {
            let names = Names::new(guest, &scheme.prefix);
            let event = |(i, n, unmask): &(prop::sample::Index, u32, bool)| {
                let kind = if *unmask { "unmask" } else { "nmi" };
                format!("{kind}@{:#x}#{n}", addresses[i.index(addresses.len())])
            };
            let text = picks.iter().map(event).collect::<Vec<_>>().join(" ");
            let schedule = Schedule::parse(&text, names).unwrap();
            prop_assert_eq!(schedule.0.len(), picks.len());
            let words = schedule.show(names);
            prop_assert_eq!(Schedule::parse(&words, names).unwrap(), schedule, "{}", words);
        }
    }

    #[test]
    fn any_text_as_a_schedule_is_read_or_refused(text in "[a-z@#+x0-9, ]{0,40}|\\PC{0,20}") {
        let guest = guest();
        let _ = Schedule::parse(&text, Names::new(guest, "naive."));
    }

    #[test]
    fn a_replay_line_is_written_as_it_is_read(
        scheme in "[a-z][a-z0-9-]{0,9}", scenario in "[a-z][a-z0-9-]{0,9}", pv in any::<bool>(),
        unblocks in any::<bool>(),
        hv_bug in proptest::option::of(proptest::sample::select(HvBug::ALL.to_vec())),
        schedule in "|nmi@[a-z_]{1,9}#[1-9]( unmask@[a-z_]{1,9}#[1-9]){0,2}",
    ) {
        let line = Replay {
            scheme, scenario,
            mode: if pv { Mode::Pv } else { Mode::Native },
            image: "0123456789abcdef".into(),
            knobs: Knobs { faulting_iret_unblocks: unblocks, hv_bug, transport: None },
            schedule,
        };
        prop_assert_eq!(Replay::parse(&line.to_string()).unwrap(), line);
    }

    #[test]
    fn any_text_as_a_replay_line_is_read_or_refused(text in "\\PC{0,60}|[a-z/@= ]{0,40}") {
        let _ = Replay::parse(&text);
    }

    #[test]
    fn any_text_as_a_campaign_is_read_or_refused(text in "\\PC{0,60}|(name|generate|schemes|=|\"|\\[|\\]|\n| ){0,30}") {
        let _ = Campaign::parse("c.toml", &text);
    }

    #[test]
    fn any_text_as_an_expectation_or_shard_is_read_as_written_or_refused(text in "(violation|pass|\\(|\\)|I|[0-9]){0,6}|[0-9/]{0,6}") {
        if let Ok(e) = text.parse::<Expectation>() {
            prop_assert_eq!(e.to_string(), text.clone());
        }
        if let Ok(s) = text.parse::<Shard>() {
            prop_assert_eq!(s.to_string().parse::<Shard>(), Ok(s));
        }
    }
}
