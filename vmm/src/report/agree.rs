//! Whether several hosts came to the same verdicts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, table};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::plain::plain;
use crate::host_id::HostId;

/// What is compared of a document that `--json` printed.
#[derive(Clone, Debug, Deserialize)]
pub struct Results {
    /// Where it was measured.
    pub host: HostId,
    image: String,
    campaign: Option<Campaign>,
    complete: bool,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Campaign {
    name: String,
    generate: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    scheme: String,
    scenario: String,
    mode: String,
    verdict: String,
    invariant: Option<String>,
    counts: BTreeMap<String, u64>,
    failures: Vec<Failure>,
}

#[derive(Clone, Debug, Deserialize)]
struct Failure {
    verdict: String,
    invariant: Option<String>,
    cases: u64,
    schedule: String,
    #[serde(default)]
    detail: String,
}

/// The verdict that is about the host, not about the guest.
const HOST_LIMIT: &str = "host-limit";

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Rows that all hosts have.
    pub rows: usize,
    /// Cases in them, on the host that has most.
    pub cases: u64,
    /// One line for each row on which hosts disagree.
    pub disagreements: Vec<String>,
    /// One line for each row and host with cases that the host cannot show.
    pub limits: Vec<String>,
    /// Each row's name, and its first disagreement.
    pub tests: Vec<(String, Option<String>)>,
    /// For each of them, what each host came to; `None` where it did not run the row.
    pub sides: Vec<Vec<Option<Side>>>,
}

/// What one host came to in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The verdict, as `violation(I5)`.
    verdict: String,
    cases: u64,
    limited: u64,
}

impl Row {
    fn key(&self) -> (&str, &str, &str) {
        (&self.scheme, &self.scenario, &self.mode)
    }

    fn limited(&self) -> u64 {
        self.counts.get(HOST_LIMIT).copied().unwrap_or(0)
    }

    fn cases(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Cases by verdict and invariant, host-limits left out.
    fn kinds(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for f in self.failures.iter().filter(|f| f.verdict != HOST_LIMIT) {
            let kind = f.invariant.as_ref().map_or(f.verdict.clone(), |i| format!("{}({i})", f.verdict));
            *kinds.entry(kind).or_default() += f.cases;
        }
        kinds.insert("pass".into(), self.counts.get("pass").copied().unwrap_or(0));
        kinds
    }

    fn side(&self) -> Side {
        let verdict = match self.invariant.as_deref().filter(|_| self.verdict == "violation") {
            Some(rule) => format!("violation({rule})"),
            None => self.verdict.clone(),
        };
        Side { verdict, cases: self.cases(), limited: self.limited() }
    }

    fn shortest(&self) -> Vec<(&str, Option<&str>, &str)> {
        let told = self.failures.iter().filter(|f| f.verdict != HOST_LIMIT);
        told.map(|f| (f.verdict.as_str(), f.invariant.as_deref(), f.schedule.as_str())).collect()
    }
}

/// Results of several hosts, compared.
pub struct Agreed {
    /// The files, as they were named.
    pub names: Vec<String>,
    /// Their hosts.
    pub hosts: Vec<HostId>,
    /// What was found.
    pub found: Agreement,
}

impl Report for Agreed {
    fn text(&self, look: &Look) -> String {
        let found = &self.found;
        let mut out = String::new();
        for (name, host) in self.names.iter().zip(&self.hosts) {
            out += &format!("{}: host {}\n", plain(name), plain(&host.to_string()));
        }
        let word = paint(look, Ink::Warn, "host-limit");
        found.limits.iter().for_each(|limit| out += &format!("{word}  {}\n", plain(limit)));
        let word = paint(look, Ink::Bad, "DISAGREE");
        found.disagreements.iter().for_each(|d| out += &format!("{word}    {}\n", plain(d)));
        let (d, l) = (found.disagreements.len(), found.limits.len());
        out + &format!("{} rows, {} cases: {d} disagreements, {l} host-limits\n", found.rows, found.cases)
    }

    fn json(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        let found = &self.found;
        let value = serde_json::json!({
            "hosts": self.hosts, "rows": found.rows, "cases": found.cases,
            "disagreements": found.disagreements, "host_limits": found.limits,
        });
        pretty(&value, to)
    }

    fn page(&self) -> Option<Page> {
        let found = &self.found;
        let (d, l) = (found.disagreements.len(), found.limits.len());
        let side = |side: &Option<Side>| match side {
            None => Cell::judged(Mood::Warn, "not run"),
            Some(s) if s.limited > 0 && s.limited == s.cases => Cell::judged(Mood::Warn, "not shown by this host"),
            Some(s) if s.limited > 0 => {
                Cell::judged(Mood::Warn, format!("{} in {} cases, {} not shown", s.verdict, s.cases, s.limited))
            }
            Some(s) => Cell::text(format!("{} in {} cases", s.verdict, s.cases)),
        };
        let row = |((name, differs), sides): (&(String, Option<String>), &Vec<Option<Side>>)| {
            let limited = sides.iter().flatten().any(|s| s.limited > 0);
            let (mood, words) = match differs.as_deref() {
                Some(differs) => (Mood::Bad, differs),
                None if limited => (Mood::Warn, "the same where they are shown"),
                None => (Mood::Good, "the same on all hosts"),
            };
            let mut cells = vec![Cell::text(name), Cell::judged(mood, words)];
            cells.extend(sides.iter().map(side));
            ((differs.is_none(), !limited), cells)
        };
        // What differs comes first, then what a host cannot show.
        let mut rows: Vec<_> = found.tests.iter().zip(&found.sides).map(row).collect();
        rows.sort_by_key(|(order, _)| *order);
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        let hosts: Vec<String> = self.hosts.iter().map(|h| format!("{} {}", h.kvm, h.kernel)).collect();
        let mut header = vec!["row", "hosts"];
        header.extend(hosts.iter().map(String::as_str));
        let limits: Vec<_> = found.limits.iter().map(|l| vec![Cell::judged(Mood::Warn, l)]).collect();
        Some(Page {
            title: "The verdicts of several hosts".into(),
            lead: format!("{} rows, {} cases: {d} disagreements, {l} host-limits", found.rows, found.cases),
            mood: if d > 0 { Mood::Bad } else { Mood::Good },
            facts: self.hosts.iter().map(|h| ("host", h.to_string())).collect(),
            parts: vec![
                table("Rows", &header, &rows),
                table("Cases that a host cannot show", &["row and host"], &limits),
            ],
        })
    }

    fn suite(&self) -> Option<Suite> {
        let test = |(row, differs): &(String, Option<String>)| Test {
            class: "agree".into(),
            name: row.clone(),
            outcome: Outcome::of(differs.is_none(), || differs.clone().unwrap_or_default()),
        };
        Some(Suite {
            name: "vmm agree".into(),
            properties: self.hosts.iter().map(|h| ("host", h.to_string())).collect(),
            tests: self.found.tests.iter().map(test).collect(),
        })
    }
}

/// Compares each with the first. `Err` where they are not results of the same cases.
pub fn agree(all: &[Results]) -> Result<Agreement, String> {
    let Some((first, others)) = all.split_first() else { return Ok(Agreement::default()) };
    for (i, r) in all.iter().enumerate() {
        let name = i + 1;
        if !r.complete {
            return Err(format!("results {name} ({}) are not complete", r.host.kvm));
        }
        if r.image != first.image {
            return Err(format!("results {name} are about image {}, the first about {}", r.image, first.image));
        }
        if r.campaign != first.campaign {
            return Err(format!("results {name} are of another campaign than the first"));
        }
    }
    let mut found = Agreement::default();
    for row in &first.rows {
        let before = found.disagreements.len();
        let mut same = vec![(&first.host, row)];
        for other in others {
            match other.rows.iter().find(|r| r.key() == row.key()) {
                Some(r) => same.push((&other.host, r)),
                None => found.disagreements.push(format!("{}: not run on {}", name(row), other.host.kvm)),
            }
        }
        found.rows += 1;
        found.cases += same.iter().map(|(_, r)| r.cases()).max().unwrap_or(0);
        for (host, r) in &same {
            if r.limited() > 0 {
                let why = r.failures.iter().find(|f| f.verdict == HOST_LIMIT).map_or("", |f| f.detail.as_str());
                let (n, all) = (r.limited(), r.cases());
                found.limits.push(format!("{}: {n} of {all} cases on {}: {why}", name(row), host.kvm));
            }
        }
        for (host, r) in &same[1..] {
            if let Some(how) = differ(row, r) {
                found.disagreements.push(format!("{}: {} and {}: {how}", name(row), first.host.kvm, host.kvm));
            }
        }
        found.tests.push((name(row), found.disagreements.get(before).cloned()));
    }
    for (r, host) in others.iter().flat_map(|o| o.rows.iter().map(move |r| (r, &o.host))) {
        if !first.rows.iter().any(|row| row.key() == r.key()) {
            let why = format!("{}: not run on {}, but on {}", name(r), first.host.kvm, host.kvm);
            found.tests.push((name(r), Some(why.clone())));
            found.disagreements.push(why);
        }
    }
    let side = |r: &Results, row: &str| r.rows.iter().find(|r| name(r) == row).map(Row::side);
    found.sides = found.tests.iter().map(|(row, _)| all.iter().map(|r| side(r, row)).collect()).collect();
    Ok(found)
}

fn name(row: &Row) -> String {
    format!("{}/{}/{}", row.scheme, row.scenario, row.mode)
}

/// How two hosts' rows contradict each other: some case must have come to different
/// verdicts, and neither is a host-limit.
fn differ(a: &Row, b: &Row) -> Option<String> {
    // A host that cannot run a scenario at all has one case for all.
    let none = |r: &Row| r.cases() == 1 && r.limited() == 1;
    if none(a) || none(b) {
        return None;
    }
    if a.cases() != b.cases() {
        return Some(format!("{} and {} cases", a.cases(), b.cases()));
    }
    let (ka, kb) = (a.kinds(), b.kinds());
    let (la, lb) = (a.limited(), b.limited());
    let mut more = [0, 0];
    for kind in ka.keys().chain(kb.keys().filter(|k| !ka.contains_key(*k))) {
        let count = |kinds: &BTreeMap<String, u64>| kinds.get(kind).copied().unwrap_or(0);
        let (na, nb) = (count(&ka), count(&kb));
        more[0] += na.saturating_sub(nb);
        more[1] += nb.saturating_sub(na);
        // Cases that one host has more of can only be the other's host-limits.
        if more[0] > lb || more[1] > la {
            return Some(format!("{na} and {nb} cases of {kind}"));
        }
    }
    if la + lb == 0 && (a.verdict != b.verdict || a.invariant != b.invariant || a.shortest() != b.shortest()) {
        let show = |r: &Row| r.shortest().iter().map(|(v, i, s)| format!("{v}({}) {s}", i.unwrap_or("-"))).collect();
        let (a, b): (Vec<String>, Vec<String>) = (show(a), show(b));
        return Some(format!("shortest failing schedules [{}] and [{}]", a.join(", "), b.join(", ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(kvm: &str, counts: &[(&str, u64)], schedule: &str) -> Results {
        let failures: Vec<_> = counts
            .iter()
            .filter(|(kind, _)| *kind != "pass")
            .map(|(kind, n)| {
                let invariant = (*kind == "violation").then_some("I5");
                serde_json::json!({"verdict": kind, "invariant": invariant, "cases": n, "schedule": schedule, "detail": "why"})
            })
            .collect();
        let counts: BTreeMap<_, _> = counts.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "host": {"fingerprint": "0", "kernel": "6.1", "kvm": kvm, "cpu": "cpu"},
            "image": "0123", "campaign": null, "complete": true, "summary": {},
            "rows": [{"scheme": "naive", "scenario": "quiet", "mode": "native", "verdict": "violation",
                      "invariant": "I5", "counts": counts, "failures": failures}],
        }))
        .unwrap()
    }

    #[test]
    fn equal_results_agree() {
        let a = results("kvm_amd", &[("pass", 5), ("violation", 2)], "nmi@body#1");
        let found = agree(&[a.clone(), a]).unwrap();
        assert_eq!((found.rows, found.cases, found.disagreements, found.limits), (1, 7, vec![], vec![]));
        let side = Side { verdict: "violation(I5)".into(), cases: 7, limited: 0 };
        assert_eq!(found.sides, [[Some(side.clone()), Some(side)]]);
    }

    #[test]
    fn other_counts_or_schedules_disagree() {
        let a = results("kvm_amd", &[("pass", 5), ("violation", 2)], "nmi@body#1");
        let b = results("kvm_intel", &[("pass", 6), ("violation", 1)], "nmi@body#1");
        let found = agree(&[a.clone(), b]).unwrap().disagreements;
        assert_eq!(found, ["naive/quiet/native: kvm_amd and kvm_intel: 5 and 6 cases of pass"]);
        let b = results("kvm_intel", &[("pass", 5), ("violation", 2)], "nmi@body#2");
        assert_eq!(agree(&[a.clone(), b]).unwrap().disagreements.len(), 1);
        let b = results("kvm_intel", &[("pass", 5), ("livelock", 2)], "nmi@body#1");
        assert_eq!(agree(&[a.clone(), b]).unwrap().disagreements.len(), 1);
        let b = results("kvm_intel", &[("pass", 6), ("violation", 2)], "nmi@body#1");
        assert_eq!(agree(&[a, b]).unwrap().disagreements.len(), 1);
    }

    #[test]
    fn a_row_that_a_host_cannot_run_at_all_is_listed() {
        let a = results("kvm_amd", &[("pass", 5), ("violation", 2)], "nmi@body#1");
        let b = results("kvm_intel", &[("host-limit", 1)], "");
        let found = agree(&[a, b]).unwrap();
        assert_eq!((found.disagreements, found.limits.len()), (vec![], 1));
    }

    #[test]
    fn a_host_limit_is_listed_and_excuses_as_many_cases_and_no_more() {
        let a = results("kvm_amd", &[("pass", 5), ("violation", 2)], "nmi@body#1");
        let b = results("kvm_pvm", &[("pass", 4), ("violation", 1), ("host-limit", 2)], "nmi@body#1");
        let found = agree(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(found.disagreements, [""; 0]);
        assert_eq!(found.limits, ["naive/quiet/native: 2 of 7 cases on kvm_pvm: why"]);
        assert_eq!(agree(&[b, a.clone()]).unwrap().disagreements, [""; 0]);
        let c = results("kvm_pvm", &[("pass", 6), ("host-limit", 1)], "nmi@body#1");
        assert_eq!(agree(&[a, c]).unwrap().disagreements.len(), 1);
    }

    #[test]
    fn other_images_campaigns_and_unfinished_results_are_refused() {
        let a = results("kvm_amd", &[("pass", 5)], "");
        let mut b = a.clone();
        b.image = "4567".into();
        assert!(agree(&[a.clone(), b]).unwrap_err().contains("image 4567"));
        let mut b = a.clone();
        b.complete = false;
        assert!(agree(&[a.clone(), b]).unwrap_err().contains("not complete"));
        let mut b = a.clone();
        b.campaign = Some(Campaign { name: "quick".into(), generate: "all".into() });
        assert!(agree(&[a.clone(), b]).unwrap_err().contains("another campaign"));
        let mut b = a.clone();
        b.rows.clear();
        assert_eq!(agree(&[a.clone(), b.clone()]).unwrap().disagreements.len(), 1);
        assert_eq!(agree(&[b, a]).unwrap().disagreements.len(), 1);
    }
}
