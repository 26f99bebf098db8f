//! What the oracle remembers of a run, and its verdict.

use std::sync::Arc;

use super::ghost::Ghost;
use super::invariant::Invariant;
use super::rules::Rules;
use super::verdict::Verdict;
use crate::image::Trap;

/// Watches one run.
pub struct Oracle {
    pub(super) rules: Arc<Rules>,
    /// What it remembers.
    pub ghost: Ghost,
    /// The writable pages at the outermost delivery.
    pub(super) captured: Vec<u8>,
    /// Another number whenever `captured` becomes another.
    pub(super) capture_id: u64,
    /// Room for the pages now.
    pub(super) now: Vec<u8>,
    verdict: Option<Verdict>,
    /// Deepest use of each declared stack, in bytes.
    pub depth: Vec<u64>,
    /// #DBs and #GPs of the interrupted code, while the golden run is made.
    pub recorded: Option<Vec<Trap>>,
}

impl Oracle {
    /// For a run that begins at *ready*.
    pub fn new(rules: Arc<Rules>) -> Self {
        let depth = vec![0; rules.guest.image.declared.stacks.len()];
        Self {
            rules,
            ghost: Ghost::default(),
            captured: vec![],
            capture_id: 0,
            now: vec![],
            verdict: None,
            depth,
            recorded: None,
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Forgets the run, for another.
    pub fn reset(&mut self) {
        self.ghost = Ghost::default();
        self.verdict = None;
    }

    /// Puts back what `save` copied.
    pub fn restore(&mut self, ghost: &Ghost, captured: &[u8]) {
        self.captured.clear();
        self.captured.extend_from_slice(captured);
        self.capture_id += 1;
        self.restore_ghost(ghost);
    }

    /// Puts back a state of the episode whose capture is at hand, or of none.
    pub fn restore_ghost(&mut self, ghost: &Ghost) {
        self.ghost = *ghost;
        self.verdict = None;
    }

    /// The pages at the outermost delivery, where one is live.
    pub fn captured(&self) -> &[u8] {
        if self.ghost.outer.is_some() { &self.captured } else { &[] }
    }

    /// Changes words of the pages at hand into those of another episode.
    pub fn recapture(&mut self, words: impl Iterator<Item = (usize, u64)>) {
        for (index, value) in words {
            self.captured[index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        self.capture_id += 1;
    }

    /// A number that is the same as long as the pages at hand are.
    pub fn capture_id(&self) -> u64 {
        self.capture_id
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Takes the verdict out.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// Ends the run with a verdict, unless it has one already.
    pub fn conclude(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    pub(super) fn breaks(&mut self, invariant: Invariant, detail: impl FnOnce(&Rules) -> String) {
        if self.verdict.is_none() {
            self.verdict = Some(Verdict::Violation { invariant, detail: detail(&self.rules) });
        }
    }
}
