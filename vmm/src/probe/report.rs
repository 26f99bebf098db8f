//! A host's answers, and the fingerprint over them.

use serde::{Deserialize, Serialize};

use super::spec::{Answer, Probe};
use crate::host_id::HostId;

/// Version of the document's form (docs/guide/json.md).
pub(super) const SCHEMA: u32 = 1;

/// How a host's answer compares with the architecture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is the architecture's, or hosts may differ here.
    Ok,
    /// It is another.
    Differs,
    /// There is none: the probe could not be made, or was not.
    Unknown,
}

/// One property, as this host answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Short name.
    pub id: String,
    /// What is measured.
    pub property: String,
    /// What the architecture allows; empty where hosts may differ.
    pub right: Vec<String>,
    /// Where it says so.
    pub source: String,
    /// This host's answer, the same at every run. `None`: there is none.
    pub answer: Option<String>,
    /// Numbers behind the answer, or why there is none. May differ from run to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How the two compare.
    pub status: Status,
    /// What the lab does about it.
    pub lab: String,
}

impl Row {
    /// The row of a probe that was made.
    pub fn new(probe: &Probe, outcome: Result<Answer, String>) -> Self {
        let (answer, detail) = match outcome {
            Ok(Answer { text, detail }) => (Some(text), detail),
            Err(why) => (None, Some(why)),
        };
        let right: Vec<String> = probe.right.iter().map(|r| (*r).into()).collect();
        let status = match &answer {
            None => Status::Unknown,
            Some(answer) if right.is_empty() || right.contains(answer) => Status::Ok,
            Some(_) => Status::Differs,
        };
        let (id, property) = (probe.id.into(), probe.property.into());
        Self { id, property, right, source: probe.source.into(), answer, detail, status, lab: probe.lab.into() }
    }

    /// The answer in words.
    pub fn answer(&self) -> &str {
        self.answer.as_deref().unwrap_or("unknown")
    }
}

/// All answers of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this document's form.
    pub schema: u32,
    /// Which host it is; its fingerprint covers the answers.
    pub host: HostId,
    /// One row per property.
    pub rows: Vec<Row>,
}

impl Report {
    /// Puts a report together.
    pub fn new(host: HostId, rows: Vec<Row>) -> Self {
        let host = host.with_answers(rows.iter().map(|r| (r.id.as_str(), r.answer())));
        Self { schema: SCHEMA, host, rows }
    }

    /// The answer to the property `id`.
    pub fn answer(&self, id: &str) -> Option<&str> {
        self.rows.iter().find(|r| r.id == id)?.answer.as_deref()
    }

    /// Whether the host does what the architecture says about `id`. What is not
    /// known is not right.
    pub fn is_right(&self, id: &str) -> bool {
        self.rows.iter().any(|r| r.id == id && r.status == Status::Ok)
    }

    /// How many rows have this status.
    pub fn count(&self, status: Status) -> usize {
        self.rows.iter().filter(|r| r.status == status).count()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn row(id: &str, right: &[&str], answer: Option<&str>) -> Row {
        let probe = Probe {
            id: "x",
            property: "what is measured",
            right: &[],
            source: "a manual",
            lab: "nothing",
            measure: |_| Ok("".into()),
        };
        let mut row = Row::new(&probe, answer.map(Answer::from).ok_or_else(|| "no answer".into()));
        (row.id, row.right) = (id.into(), right.iter().map(|r| (*r).into()).collect());
        row
    }

    pub fn report(kvm: &str, rows: Vec<Row>) -> Report {
        let (kernel, cpu, fingerprint) = ("6.1".into(), "a CPU".into(), String::new());
        Report::new(HostId { fingerprint, kernel, kvm: kvm.into(), cpu }, rows)
    }

    #[test]
    fn the_status_compares_the_answer_with_what_is_right() {
        let made = |right: &'static [&'static str], outcome: Result<Answer, String>| {
            let probe = Probe { id: "x", property: "", right, source: "", lab: "", measure: |_| Ok("".into()) };
            Row::new(&probe, outcome).status
        };
        assert_eq!(made(&["a", "b"], Ok("b".into())), Status::Ok);
        assert_eq!(made(&["a"], Ok("b".into())), Status::Differs);
        assert_eq!(made(&[], Ok("b".into())), Status::Ok);
        assert_eq!(made(&[], Err("why".into())), Status::Unknown);
    }

    #[test]
    fn the_fingerprint_covers_host_and_answers_but_no_numbers() {
        let base = report("kvm_amd", vec![row("a", &[], Some("exact"))]);
        let mut numbered = base.rows.clone();
        numbered[0].detail = Some("17".into());
        assert_eq!(base.host.fingerprint, report("kvm_amd", numbered).host.fingerprint);
        assert_ne!(base.host.fingerprint, report("kvm_intel", base.rows.clone()).host.fingerprint);
        assert_ne!(base.host.fingerprint, report("kvm_amd", vec![row("a", &[], Some("late"))]).host.fingerprint);
        assert_ne!(base.host.fingerprint, report("kvm_amd", vec![row("a", &[], None)]).host.fingerprint);
        assert_eq!(base.host.fingerprint.len(), 8);
    }

    #[test]
    fn what_is_unknown_is_not_right() {
        let r = report("kvm_amd", vec![row("a", &[], Some("exact")), row("b", &[], None)]);
        assert!(r.is_right("a") && !r.is_right("b") && !r.is_right("c"));
        assert_eq!(r.answer("a"), Some("exact"));
        assert_eq!(r.answer("b"), None);
    }

    #[test]
    fn a_report_survives_json() {
        let r = report("kvm_amd", vec![row("a", &["exact"], Some("exact")), row("b", &[], None)]);
        assert_eq!(serde_json::from_str::<Report>(&serde_json::to_string(&r).unwrap()).unwrap(), r);
    }
}
