//! Coverage (I20) of campaigns: what is counted, that shares of it add up, and that it
//! agrees with the explorer's.

mod common;

use std::collections::BTreeMap;

use common::{campaign, check_document, vmm};
use proptest::prelude::*;
use serde_json::Value;
use vmm::inject::coverage::{Count, Coverage, Kind, Stand};

fn stand(rip: u64, bits: u8) -> Stand {
    let on = |i: u8| bits >> i & 1 != 0;
    let stack = on(1).then_some(1);
    let kind = Kind { cpl: if on(0) { 3 } else { 0 }, kernel_gs: on(2), stack, blocked: on(3), pending: on(4) };
    Stand { rip, kind, shadow: on(5) }
}

fn coverage<'a>(notes: impl IntoIterator<Item = &'a (u64, u8, bool)>) -> Coverage {
    let mut out = Coverage::default();
    notes.into_iter().for_each(|(rip, bits, injected)| out.note(stand(*rip, *bits), *injected));
    out
}

fn notes() -> impl Strategy<Value = Vec<(u64, u8, bool)>> {
    prop::collection::vec((0u64..200, 0u8..64, any::<bool>()), 0..60)
}

proptest! {
    /// However the notes are dealt out, and in whatever order the shares are added: the
    /// sum is that of one who saw them all, and so are its bytes.
    #[test]
    fn shares_add_up_in_any_order(notes in notes(), deal in 1usize..7, first in 0usize..7) {
        let whole = coverage(&notes);
        let share = |n: usize| coverage(notes.iter().skip(n % deal).step_by(deal));
        let mut merged = Coverage::default();
        (0..=deal).for_each(|n| merged.merge(&share(n + first))); // one of them twice
        prop_assert_eq!(&merged, &whole);
        let text = serde_json::to_string(&merged).unwrap();
        prop_assert_eq!(&text, &serde_json::to_string(&whole).unwrap());
        prop_assert_eq!(serde_json::from_str::<Coverage>(&text).unwrap(), whole);
    }

    /// Each boundary counts once in each context: as injected, as latched, or as open.
    #[test]
    fn counts_are_those_of_a_plain_list(notes in notes()) {
        let mut places: Vec<(u64, Kind)> = notes.iter().map(|n| (n.0, stand(n.0, n.1).kind)).collect();
        places.sort();
        places.dedup();
        let mut plain = BTreeMap::<Kind, Count>::new();
        for (rip, kind) in places {
            let here = || notes.iter().filter(|n| n.0 == rip && stand(n.0, n.1).kind == kind);
            let injected = here().any(|n| n.2);
            let latched = !injected && (kind.blocked || kind.pending || here().all(|n| stand(n.0, n.1).shadow));
            plain.entry(kind).or_default().add(Count { boundaries: 1, injected: injected.into(), latched: latched.into() });
        }
        prop_assert_eq!(coverage(&notes).counts(), plain);
        let distinct = |wanted: &dyn Fn(&&(u64, u8, bool)) -> bool| {
            notes.iter().filter(wanted).map(|n| n.0).collect::<std::collections::BTreeSet<_>>().len() as u64
        };
        prop_assert_eq!(coverage(&notes).instructions(), (distinct(&|_| true), distinct(&|n| n.2)));
    }
}

fn row(text: &str) -> Value {
    let json = campaign(text, &["--json"]).json();
    check_document(&json);
    json["rows"][0]["coverage"].clone()
}

fn about(scheme: &str, scenario: &str, generate: &str) -> String {
    format!("name = 'c'\nschemes = ['{scheme}']\nscenarios = ['{scenario}']\ngenerate = {generate}\n")
}

/// The boundaries of the golden run.
fn golden(scheme: &str, scenario: &str) -> Vec<Value> {
    let list = vmm(&["list", "boundaries", "--scheme", scheme, "--scenario", scenario, "--json"]).exits(0).json();
    list["boundaries"].as_array().unwrap().iter().filter(|b| b["path"] == "golden").cloned().collect()
}

#[test]
fn one_injection_fewer_is_one_boundary_more_that_is_open() {
    let golden = golden("naive", "quiet");
    let with = |places: &[Value]| {
        let each: Vec<String> = places.iter().map(|p| format!("'nmi@{}#1'", p["place"].as_str().unwrap())).collect();
        row(&about("naive", "quiet", &format!("{{ schedules = [{}] }}", each.join(", "))))
    };
    let (three, two) = (with(&golden[4..7]), with(&golden[4..6]));
    let numbers = |c: &Value| ["boundaries", "injected", "open"].map(|key| c[key].as_u64().unwrap());
    let ([all, injected, open], two) = (numbers(&three), numbers(&two));
    assert_eq!((injected, two), (3, [all, 2, open + 1]), "{three:#}");
    assert!(open > 100, "most of the golden run is open: {three:#}");
}

#[test]
fn points_inject_at_every_boundary_of_the_golden_run() {
    let quiet = row(&about("naive", "quiet", "'points'"));
    assert_eq!(quiet["injected"], golden("naive", "quiet").len());
    assert_eq!((&quiet["open"], &quiet["unreachable"]), (&Value::from(0), &Value::Null));
    // One NMI shows the boundaries behind the body's fault, where NMIs are unblocked,
    // and injects at none of them; two do.
    let [one, two] =
        ["'points'", "'pairs'"].map(|how| row(&about("eager-sync", "short-ud-fault", how))["open"].as_u64().unwrap());
    assert!(one > 0 && two < one, "{one} {two}");
}

#[test]
fn a_closed_search_covers_what_the_explorer_says_and_all_that_pairs_see() {
    let (scheme, scenario) = ("xen-flag", "vmalloc-fault");
    let closed = row(&about(scheme, scenario, "'closure'"));
    let explored = vmm(&["explore", "--scheme", scheme, "--scenario", scenario, "--json"]).exits(0).json();
    assert_eq!(explored["closed"], true);
    assert_eq!(closed["contexts"], explored["coverage"]);
    let unreachable = closed["unreachable"].as_array().unwrap();
    assert!(unreachable.iter().any(|c| c["cpl"] == 3 && c["gs"] == "user"), "{closed:#}");
    // The search has no boundaries in a shadow: an NMI there is one at the next.
    let shadows = golden(scheme, scenario).iter().filter(|b| b["shadow"] == true).count() as u64;
    assert!(shadows > 0);
    let pairs = row(&about(scheme, scenario, "'pairs'\n[window]\nfirst_every = 20"));
    let mut compared = 0;
    for seen in pairs["contexts"].as_array().unwrap() {
        if seen["blocked"] == false && seen["pending"] == false {
            let same = |c: &&Value| ["cpl", "gs", "rsp"].iter().all(|key| c[key] == seen[key]);
            assert_eq!(unreachable.iter().find(same), None, "seen and said to be unreachable");
            let known = closed["contexts"].as_array().unwrap().iter().filter(same).find(|c| c["blocked"] == false);
            let most = known.unwrap()["injected"].as_u64().unwrap() + shadows;
            assert!(most >= seen["injected"].as_u64().unwrap(), "{seen:#} {known:#?}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}
