//! The rules in words: what it means for a run that one of them broke.

use crate::oracle::{Invariant, Verdict};

/// What a rule is called.
pub fn name(rule: Invariant) -> &'static str {
    match rule {
        Invariant::I1 => "latch",
        Invariant::I2 => "block",
        Invariant::I3 => "service",
        Invariant::I4 => "bound",
        Invariant::I5 => "no re-entry",
        Invariant::I6 => "context",
        Invariant::I7 => "memory",
        Invariant::I8 => "provenance of frames",
        Invariant::I9 => "stack",
        Invariant::I10 => "GS",
        Invariant::I11 => "CR3",
        Invariant::I12 => "at rest",
        Invariant::I13 => "executing",
        Invariant::I14 => "handler's view",
        Invariant::I15 => "privilege",
        Invariant::I16 => "traps",
        Invariant::I17 => "progress",
        Invariant::I18 => "no undeclared fault",
        Invariant::I19 => "atomic return",
        Invariant::I20 => "coverage",
    }
}

/// What happened to the rule.
fn broke(rule: Invariant) -> &'static str {
    match rule {
        Invariant::I1 => "an NMI that arrived was neither delivered at the first boundary that permits it nor kept",
        Invariant::I2 => "NMIs are blocked where the model has them open, or open where it has them blocked",
        Invariant::I3 => "an NMI arrived, and no run of the body began at or after it: the event is lost",
        Invariant::I4 => "the body ran more often than NMIs were delivered",
        Invariant::I5 => "the body began again before an earlier run of it had ended",
        Invariant::I6 => "the interrupted code did not get its registers back as they were",
        Invariant::I7 => "memory that is nobody's scratch is not as it was without NMIs",
        Invariant::I8 => "an iret consumed a frame that nobody delivered or declared",
        Invariant::I9 => "RSP left the declared stacks",
        Invariant::I10 => "the body ran on another GS base than the kernel's, or the interrupted one was not put back",
        Invariant::I11 => "the body ran on another CR3 than a kernel's, or the entry's was not put back",
        Invariant::I12 => {
            "after the outermost return something is left behind: a blocked NMI, a flag or a poisoned word"
        }
        Invariant::I13 => "the word that says \"an NMI is executing\" is set where no outermost NMI is live",
        Invariant::I14 => "the body was shown another context than the one that the outermost NMI interrupted",
        Invariant::I15 => "kernel privilege was kept at a user's RIP, or a user's frame took the path of nested NMIs",
        Invariant::I16 => "the interrupted code took other #DB or #GP traps than it does without NMIs",
        Invariant::I17 => "nothing is left to arrive, and the run goes round for ever",
        Invariant::I18 => "entry or exit code took a fault that it does not declare, or the CPU shut down",
        Invariant::I19 => "a return that failed did not leave mask, latch and frame as the model says",
        Invariant::I20 => "a boundary was left uncovered",
    }
}

/// How a run ended, in a sentence or two: the rule, and what was seen of it.
pub fn sentence(verdict: &Verdict) -> String {
    let detail = verdict.detail().trim_end_matches('.');
    match verdict {
        Verdict::Pass => "Every NMI was served, and the interrupted code goes on as if there had been none.".to_owned(),
        Verdict::HostLimit { .. } => format!("This KVM cannot show it: {detail}."),
        Verdict::Shutdown { .. } => format!("The CPU gives up with a triple fault: {detail}."),
        Verdict::Livelock { .. } => {
            format!("I17 (progress) breaks: {}. Seen: {detail}.", broke(Invariant::I17))
        }
        Verdict::Violation { invariant, .. } => {
            format!("{invariant} ({}) breaks: {}. Seen: {detail}.", name(*invariant), broke(*invariant))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Invariant; 20] = [
        Invariant::I1,
        Invariant::I2,
        Invariant::I3,
        Invariant::I4,
        Invariant::I5,
        Invariant::I6,
        Invariant::I7,
        Invariant::I8,
        Invariant::I9,
        Invariant::I10,
        Invariant::I11,
        Invariant::I12,
        Invariant::I13,
        Invariant::I14,
        Invariant::I15,
        Invariant::I16,
        Invariant::I17,
        Invariant::I18,
        Invariant::I19,
        Invariant::I20,
    ];

    #[test]
    fn every_rule_has_a_sentence_of_its_own_that_says_what_was_seen() {
        let mut seen = std::collections::HashSet::new();
        for rule in ALL {
            let verdict = Verdict::Violation { invariant: rule, detail: "what was seen.".into() };
            let text = sentence(&verdict);
            assert!(text.starts_with(&format!("{rule} (")), "{text}");
            assert!(text.ends_with("Seen: what was seen."), "{text}");
            assert!(seen.insert(broke(rule)) && seen.insert(name(rule)), "{rule} is said twice");
        }
    }

    #[test]
    fn other_verdicts_are_said_without_a_rule_that_did_not_break() {
        assert!(!sentence(&Verdict::Pass).contains("breaks"));
        assert!(sentence(&Verdict::Shutdown { detail: "at exit".into() }).contains("triple fault: at exit."));
        assert!(sentence(&Verdict::HostLimit { why: "no x".into() }).starts_with("This KVM cannot"));
    }
}
