//! The rules in words: what it means for a run that one of them broke.

use crate::oracle::{Invariant, Verdict};

/// How a run ended, in a sentence or two: the rule, and what was seen of it.
pub fn sentence(verdict: &Verdict) -> String {
    let detail = verdict.detail().trim_end_matches('.');
    match verdict {
        Verdict::Pass => "Every NMI was served, and the interrupted code goes on as if there had been none.".to_owned(),
        Verdict::HostLimit { .. } => format!("This KVM cannot show it: {detail}."),
        Verdict::Shutdown { .. } => format!("The CPU gives up with a triple fault: {detail}."),
        Verdict::Livelock { .. } => {
            format!("I17 (progress) breaks: {}. Seen: {detail}.", Invariant::Progress.broke())
        }
        Verdict::Violation { invariant, .. } => {
            format!("{invariant} ({}) breaks: {}. Seen: {detail}.", invariant.name(), invariant.broke())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_sentence_of_its_own_that_says_what_was_seen() {
        let mut seen = std::collections::HashSet::new();
        for rule in Invariant::ALL {
            let verdict = Verdict::Violation { invariant: rule, detail: "what was seen.".into() };
            let text = sentence(&verdict);
            assert!(text.starts_with(&format!("{rule} (")), "{text}");
            assert!(text.ends_with("Seen: what was seen."), "{text}");
            assert!(seen.insert(rule.broke()) && seen.insert(rule.name()), "{rule} is said twice");
        }
    }

    #[test]
    fn other_verdicts_are_said_without_a_rule_that_did_not_break() {
        assert!(!sentence(&Verdict::Pass).contains("breaks"));
        assert!(sentence(&Verdict::Shutdown { detail: "at exit".into() }).contains("triple fault: at exit."));
        assert!(sentence(&Verdict::HostLimit { why: "no x".into() }).starts_with("This KVM cannot"));
    }
}
