//! A run as a story: what arrived, what the CPU and the code did about it, what became of the
//! words on the stacks, and which rule broke. The HTML page and `vmm explain` tell the same one.

mod kernel;
mod recorder;
mod rules;

use serde::Serialize;

pub use kernel::of_kernel;
pub use recorder::Recorder;
pub use rules::sentence;

use super::plain::plain;
use crate::inject::Replay;
use crate::oracle::Verdict;

/// A run, step by step.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the NMI mask.
    pub mode: String,
    /// The line that replays it; of a real kernel, the whole command.
    pub replay: String,
    /// The verdict's word.
    pub verdict: &'static str,
    /// The rule that broke, as `I8`.
    pub rule: Option<String>,
    /// What it is called.
    pub rule_name: Option<&'static str>,
    /// What happened to it, in a sentence.
    pub ending: String,
    /// The stack's slots that were written, from its top downwards.
    pub slots: Vec<Slot>,
    /// One for each instruction that is told of.
    pub steps: Vec<Step>,
    /// Instructions of the run that are not told of: nothing was live.
    pub skipped: u64,
}

/// A word of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its address.
    #[serde(skip)]
    pub addr: u64,
    /// As `T-40`: bytes below the top of its stack.
    pub name: String,
    /// The stack.
    pub stack: String,
}

/// One instruction, with what came before it at its boundary.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Step {
    /// Its number in the run, from 1.
    pub n: u64,
    /// The boundary, as `label+0x4#2`.
    pub at: String,
    /// The instruction.
    pub text: String,
    /// NMIs are blocked.
    pub blocked: bool,
    /// One is pending.
    pub pending: bool,
    /// NMIs delivered and not returned from.
    pub depth: u32,
    /// Bodies under way.
    pub bodies: u8,
    /// Registers that it changed.
    pub changed: String,
    /// The slot that RSP points at.
    pub rsp: Option<usize>,
    /// What happened here before the instruction, a sentence each.
    pub notes: Vec<Note>,
    /// Words that were written on the way here: slot, writer, what it says.
    pub writes: Vec<Write>,
    /// The slots of the frame that the next iretq consumes, its lowest word first.
    pub consumes: Vec<usize>,
    /// RSP, from which the depth is counted.
    #[serde(skip)]
    pub stack_pointer: u64,
}

/// A sentence, and the kind of what it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about; the timeline has a mark for it.
    pub kind: Kind,
    /// The sentence.
    pub text: String,
}

/// What a sentence tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The story goes on here, after steps that it does not show.
    Cut,
    /// An event arrived.
    Arrival,
    /// An NMI was delivered.
    Delivery,
    /// An exception was raised.
    Fault,
    /// An iretq was executed.
    Return,
    /// A body began or ended.
    Body,
    /// A frame that is still needed was overwritten.
    Overwritten,
    /// The run ended.
    End,
}

/// A word that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The slot's number.
    pub slot: usize,
    /// Who wrote it.
    pub by: Writer,
    /// The NMI that it belongs to, from 1; 0: none.
    pub nmi: u32,
    /// Its value: a place, where it is one.
    pub value: String,
    /// It was part of a frame that a later iretq needs.
    pub lost: bool,
}

/// Who wrote a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// The CPU (or the hypervisor): an NMI's frame.
    Frame,
    /// The CPU: an exception's frame.
    Fault,
    /// Entry code: a copy of an NMI's frame.
    Copy,
    /// Entry code.
    Entry,
    /// The NMI's body.
    Body,
    /// What was interrupted.
    Work,
}

impl Story {
    /// Says how it ended.
    pub fn end(mut self, line: &Replay, verdict: &Verdict) -> Self {
        self.scheme = line.scheme.clone();
        self.scenario = line.scenario.clone();
        self.mode = line.mode.to_string();
        self.replay = line.to_string();
        self.verdict = verdict.word();
        self.rule = verdict.invariant().map(|i| i.to_string());
        self.rule_name = verdict.invariant().map(|rule| rule.name());
        self.ending = sentence(verdict);
        if let Some(last) = self.steps.last_mut() {
            last.notes.push(Note { kind: Kind::End, text: self.ending.clone() });
        }
        self
    }

    /// The same with the steps only that are no further than `around` from an event, and of those
    /// the first and the last, `most` in all. What the others wrote stands at the next one that is
    /// kept.
    pub fn near_events(mut self, around: usize, most: usize) -> Self {
        let mut keep = vec![false; self.steps.len()];
        for i in self.steps.iter().enumerate().filter(|(_, s)| !s.notes.is_empty()).map(|(i, _)| i) {
            let end = (i + around + 1).min(keep.len());
            keep[i.saturating_sub(around)..end].fill(true);
        }
        let near: Vec<usize> = (0..keep.len()).filter(|i| keep[*i]).collect();
        let cut = near.get(most / 2..near.len().saturating_sub(most / 2)).unwrap_or_default();
        cut.iter().for_each(|i| keep[*i] = false);
        let resumes = cut.last().map(|last| last + 1);
        let mut written: Vec<Write> = Vec::new();
        let mut kept = Vec::new();
        for (i, (mut step, keep)) in std::mem::take(&mut self.steps).into_iter().zip(keep).enumerate() {
            written.append(&mut step.writes);
            if resumes == Some(i) {
                let text = format!("{} instructions with events are left out before this one.", cut.len());
                step.notes.insert(0, Note { kind: Kind::Cut, text });
            }
            if keep {
                step.writes = std::mem::take(&mut written);
                kept.push(step);
            } else {
                self.skipped += 1;
            }
        }
        self.skipped -= cut.len() as u64;
        self.steps = kept;
        self
    }

    /// All sentences, in the order of the run, with the boundary that each was said at.
    pub fn notes(&self) -> impl Iterator<Item = (&Step, &Note)> {
        self.steps.iter().flat_map(|s| s.notes.iter().map(move |n| (s, n)))
    }

    /// The command that replays it.
    pub fn command(&self) -> String {
        match self.replay.starts_with("vmm ") {
            true => self.replay.clone(),
            false => format!("vmm replay '{}'", self.replay),
        }
    }

    /// The story in about ten lines.
    pub fn text(&self) -> String {
        const MOST: usize = 8;
        let rule = match (&self.rule, self.rule_name) {
            (Some(rule), Some(name)) => format!("{} of {rule}, {name}", self.verdict),
            _ => self.verdict.to_owned(),
        };
        let mut out = format!("{} / {} / {}: {rule}\n", plain(&self.scheme), plain(&self.scenario), plain(&self.mode));
        let mut notes: Vec<(&Step, &Note)> = self.notes().filter(|(_, n)| n.kind != Kind::End).collect();
        if notes.len() > MOST {
            // Bodies and faults are the least of a story; then its middle goes.
            notes.retain(|(_, n)| !matches!(n.kind, Kind::Body | Kind::Cut));
        }
        if notes.len() > MOST {
            notes.retain(|(_, n)| n.kind != Kind::Fault);
        }
        if notes.len() > MOST {
            // Of returns, those that leave an NMI matter most.
            notes.retain(|(_, n)| n.kind != Kind::Return || n.text.starts_with("NMI "));
        }
        let left_out = notes.len().saturating_sub(MOST);
        let head = MOST / 2;
        for (i, (step, note)) in notes.iter().enumerate() {
            if left_out > 0 && i == head {
                out += &format!("       … {} more\n", left_out + 1);
            }
            if left_out == 0 || i < head || i > head + left_out {
                out += &format!("{:>6} {}\n", step.n, plain(&note.text));
            }
        }
        out += &format!("       {}\n", plain(&self.ending));
        if !self.replay.is_empty() {
            out += &format!("replay {}\n", plain(&self.command()));
        }
        out
    }
}
