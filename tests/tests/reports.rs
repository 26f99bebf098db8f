//! What reports look like, on results that are made up.

use std::collections::BTreeMap;

use vmm::campaign::{Disagreement, Timing};
use vmm::host_id::HostId;
use vmm::image::Mode;
use vmm::report::{
    CampaignInfo, CoverageRow, Document, FailureRow, Look, Report, Row, RowCoverage, Summary, Units, Unreachable,
    format,
};

fn failure(verdict: &'static str, invariant: Option<&str>, cases: u64, schedule: &str) -> FailureRow {
    FailureRow {
        verdict,
        invariant: invariant.map(str::to_owned),
        detail: format!("this is how <{schedule}> failed"),
        cases,
        schedule: schedule.into(),
        replay: format!("s/c/native@0123456789abcdef {schedule}"),
    }
}

fn coverage(closed: bool) -> RowCoverage {
    let context = CoverageRow {
        cpl: 0,
        gs: "kernel",
        rsp: Some("main".into()),
        blocked: false,
        pending: false,
        boundaries: 10,
        injected: 7,
        latched: 2,
        open: 1,
    };
    let unreachable = closed.then(|| vec![Unreachable { cpl: 3, gs: "user", rsp: None }]);
    RowCoverage { boundaries: 10, injected: 7, latched: 2, open: 1, unreachable, contexts: vec![context] }
}

fn row(scheme: &str, expected: &str, as_expected: Option<bool>, failures: Vec<FailureRow>) -> Row {
    let worst = failures.first().cloned();
    let failed: u64 = failures.iter().map(|f| f.cases).sum();
    let mut counts = BTreeMap::from([("pass", 1000 - failed)]);
    failures.iter().for_each(|f| *counts.entry(f.verdict).or_default() += f.cases);
    Row {
        not_stepped: None,
        reads_time: None,
        smi_played: false,
        scheme: scheme.into(),
        scenario: "quiet".into(),
        mode: if scheme == "hypervisor" { Mode::Pv } else { Mode::Native },
        cases: 1000,
        verdict: worst.as_ref().map_or("pass", |w| w.verdict),
        expected: expected.into(),
        as_expected,
        invariant: worst.as_ref().and_then(|w| w.invariant.clone()),
        detail: worst.as_ref().map(|w| w.detail.clone()),
        schedule: worst.as_ref().map(|w| w.schedule.clone()),
        replay: worst.map(|w| w.replay),
        missing: u64::from(scheme == "hypervisor"),
        counts,
        failures,
        rechecked: 10,
        disagreements: vec![],
        coverage: Some(coverage(scheme == "sound")),
    }
}

fn document() -> Document {
    let broken = vec![
        failure("violation", Some("I5"), 20, "nmi@a#1 nmi@b#1"),
        failure("livelock", Some("I17"), 1, "nmi@a#1 nmi@b#1 nmi@c#2"),
    ];
    let mut strange = row("strange", "pass", Some(true), vec![]);
    let verdicts = vec![("jump".into(), "pass".into()), ("arm".into(), "livelock(at b)".into())];
    strange.disagreements.push(Disagreement { schedule: "nmi@b#1".into(), verdicts });
    let rows = vec![
        row("sound", "pass", Some(true), vec![]),
        row("hypervisor", "violation(I6)", None, vec![]),
        row("broken", "violation(I5)", Some(true), broken.clone()),
        row("surprising", "pass", Some(false), broken),
        row("limited", "host-limit", Some(true), vec![failure("host-limit", None, 3, "nmi@a#1")]),
        strange,
    ];
    Document {
        host: HostId {
            fingerprint: "01234567".into(),
            kernel: "6.1".into(),
            kvm: "kvm_amd".into(),
            cpu: "A \"CPU\"".into(),
        },
        image: "0123456789abcdef".into(),
        campaign: Some(CampaignInfo {
            name: "made-up".into(),
            about: "every kind of row".into(),
            generate: "one schedule".into(),
        }),
        complete: false,
        units: Some(Units { run: 8, of: 9 }),
        part: None,
        summary: Summary::of(&rows),
        rows,
        timings: Some(vec![Timing { scheme: "sound".into(), scenario: "quiet".into(), cases: 1000, seconds: 0.125 }]),
        trace: None,
        pictures: Default::default(),
    }
}

fn written(name: &str) -> String {
    let mut out = Vec::new();
    format(name).unwrap().write(&document(), &Look::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_terminal() {
    insta::assert_snapshot!("terminal", document().text(&Look::default()));
}

#[test]
fn junit_xml() {
    insta::assert_snapshot!("junit", written("junit"));
}

#[test]
fn json() {
    insta::assert_snapshot!("json", written("json").trim_end());
}

#[test]
fn ktap() {
    insta::assert_snapshot!("ktap", written("ktap"));
}
