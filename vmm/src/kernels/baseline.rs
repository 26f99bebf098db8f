//! Earlier results that new ones are held to: only what is new fails.
//!
//! Offsets move with every build, so a defect is known by what stays: its site, the sweep, what
//! was broken, and the function that the last event came in. As many of a kind as there were are
//! known.

use std::collections::HashMap;

use serde::Deserialize;

use super::results::{Document, SweepInfo};
use super::row::CaseRow;

/// Results of `vmm linux --sweep --json`, as far as they are compared.
#[derive(Debug, Deserialize)]
struct Old {
    complete: bool,
    sweeps: Vec<OldSweep>,
}

#[derive(Debug, Deserialize)]
struct OldSweep {
    site: String,
    part: String,
    nmis: String,
    #[serde(default)]
    fault: Option<String>,
    rows: Vec<OldRow>,
}

#[derive(Debug, Deserialize)]
struct OldRow {
    schedule: String,
    verdict: String,
    invariant: Option<String>,
    defect: bool,
}

/// How many defects of each kind there were.
#[derive(Debug, Default)]
pub struct Baseline {
    sweeps: Vec<String>,
    known: HashMap<String, usize>,
}

impl Baseline {
    /// Reads the JSON of `vmm linux --sweep` or `--campaign`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let old: Old = serde_json::from_slice(bytes)
            .map_err(|e| format!("these are no results of vmm linux --sweep --json: {e}"))?;
        if !old.complete {
            return Err("these results are not complete: the sweep was interrupted".into());
        }
        let mut out = Self::default();
        for s in &old.sweeps {
            let sweep = sweep_key(&s.site, &s.part, &s.nmis, s.fault.as_deref());
            for row in s.rows.iter().filter(|r| r.defect) {
                let key = row_key(&sweep, &row.schedule, &row.verdict, row.invariant.as_deref());
                *out.known.entry(key).or_default() += 1;
            }
            out.sweeps.push(sweep);
        }
        Ok(out)
    }

    /// Marks the defects that were known, in the order of the rows; returns how many were, and
    /// how many are new.
    pub fn apply(&self, document: &mut Document) -> (u64, u64) {
        let mut left = self.known.clone();
        let (mut known, mut new) = (0, 0);
        for sweep in &mut document.sweeps {
            let key = self::key(sweep);
            for row in sweep.rows.iter_mut().filter(|r| r.defect) {
                let left = left.get_mut(&case_key(&key, row)).filter(|n| **n > 0);
                row.known = left.is_some();
                match left {
                    Some(n) => (*n, known) = (*n - 1, known + 1),
                    None => new += 1,
                }
            }
        }
        (known, new)
    }

    /// Sweeps of a document that the baseline has not, of which every defect counts as new.
    pub fn missing(&self, document: &Document) -> Vec<String> {
        document.sweeps.iter().map(key).filter(|key| !self.sweeps.contains(key)).collect()
    }
}

fn key(sweep: &SweepInfo) -> String {
    sweep_key(&sweep.site, sweep.part.word(), sweep.nmis.word(), sweep.fault.as_deref())
}

fn case_key(sweep: &str, row: &CaseRow) -> String {
    row_key(sweep, &row.schedule, &row.verdict, row.invariant.as_deref())
}

fn sweep_key(site: &str, part: &str, nmis: &str, fault: Option<&str>) -> String {
    let fault = fault.map_or(String::new(), |at| format!(", a fault in {}", label(at)));
    format!("{site}{fault}, {part}, {nmis}")
}

fn row_key(sweep: &str, schedule: &str, verdict: &str, invariant: Option<&str>) -> String {
    let last = schedule.split_whitespace().last().unwrap_or_default();
    let place = last.split_once('@').map_or(last, |(_, place)| place);
    format!("{sweep}: {verdict}({}) at {}", invariant.unwrap_or_default(), label(place))
}

/// The function of a place.
fn label(place: &str) -> &str {
    place.split(['+', '#']).next().unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_refused_and_defects_are_known_by_function() {
        assert!(Baseline::parse(b"{}").unwrap_err().contains("no results"));
        assert!(Baseline::parse(br#"{"complete": false, "sweeps": []}"#).unwrap_err().contains("interrupted"));
        let text = r#"{"complete": true, "sweeps": [{"site": "user", "part": "second", "nmis": "unmasked", "rows": [
            {"schedule": "nmi@user#1 nmi@nmi_restore+0x25#1", "verdict": "livelock", "invariant": null, "defect": true},
            {"schedule": "nmi@user#1 nmi@nmi_restore+0x1#1", "verdict": "pass", "invariant": null, "defect": false}]}]}"#;
        let baseline = Baseline::parse(text.as_bytes()).unwrap();
        let sweep = sweep_key("user", "second", "unmasked", None);
        assert_eq!(baseline.sweeps, std::slice::from_ref(&sweep));
        let key = row_key(&sweep, "nmi@user#1 nmi@nmi_restore+0x7#2", "livelock", None);
        assert_eq!(baseline.known.get(&key), Some(&1));
        assert_ne!(sweep, sweep_key("user", "second", "unmasked", Some("exc_nmi+0x22#1")));
    }
}
