//! The rules in words: what it means for a run that one of them broke.

use crate::oracle::{Invariant, Verdict};

/// What a rule is called.
pub fn name(rule: Invariant) -> &'static str {
    match rule {
        Invariant::Latch => "latch",
        Invariant::Block => "block",
        Invariant::Service => "service",
        Invariant::Bound => "bound",
        Invariant::NoReentry => "no re-entry",
        Invariant::Context => "context",
        Invariant::Memory => "memory",
        Invariant::Provenance => "provenance of frames",
        Invariant::Stack => "stack",
        Invariant::Gs => "GS",
        Invariant::Cr3 => "CR3",
        Invariant::AtRest => "at rest",
        Invariant::Flagged => "executing",
        Invariant::View => "handler's view",
        Invariant::Privilege => "privilege",
        Invariant::Traps => "traps",
        Invariant::Progress => "progress",
        Invariant::NoFault => "no undeclared fault",
        Invariant::Atomicity => "atomic return",
        Invariant::Coverage => "coverage",
        Invariant::BodyEnvironment => "body's environment",
    }
}

/// What happened to the rule.
fn broke(rule: Invariant) -> &'static str {
    match rule {
        Invariant::Latch => "an NMI that arrived was neither delivered at the first boundary that permits it nor kept",
        Invariant::Block => "NMIs are blocked where the model has them open, or open where it has them blocked",
        Invariant::Service => "an NMI arrived, and no run of the body began at or after it: the event is lost",
        Invariant::Bound => "the body ran more often than NMIs were delivered",
        Invariant::NoReentry => "the body began again before an earlier run of it had ended",
        Invariant::Context => "the interrupted code did not get its registers back as they were",
        Invariant::Memory => "memory that is nobody's scratch is not as it was without NMIs",
        Invariant::Provenance => "an iret consumed a frame that nobody delivered or declared",
        Invariant::Stack => "RSP left the declared stacks",
        Invariant::Gs => "the body ran on another GS base than the kernel's, or the interrupted one was not put back",
        Invariant::Cr3 => "the body ran on another CR3 than a kernel's, or the entry's was not put back",
        Invariant::AtRest => {
            "after the outermost return something is left behind: a blocked NMI, a flag or a poisoned word"
        }
        Invariant::Flagged => "the word that says \"an NMI is executing\" is set where no outermost NMI is live",
        Invariant::View => "the body was shown another context than the one that the outermost NMI interrupted",
        Invariant::Privilege => {
            "kernel privilege was kept at a user's RIP, or a user's frame took the path of nested NMIs"
        }
        Invariant::Traps => "the interrupted code took other #DB or #GP traps than it does without NMIs",
        Invariant::Progress => "nothing is left to arrive, and the run goes round for ever",
        Invariant::NoFault => "entry or exit code took a fault that it does not declare, or the CPU shut down",
        Invariant::Atomicity => "a return that failed did not leave mask, latch and frame as the model says",
        Invariant::Coverage => "a boundary was left uncovered",
        Invariant::BodyEnvironment => "the body began with a flag, a stack or a page table that it may not rely on",
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
            format!("I17 (progress) breaks: {}. Seen: {detail}.", broke(Invariant::Progress))
        }
        Verdict::Violation { invariant, .. } => {
            format!("{invariant} ({}) breaks: {}. Seen: {detail}.", name(*invariant), broke(*invariant))
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
