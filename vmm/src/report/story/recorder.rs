//! Watches a stepped run, and notes who writes which word of a stack.

use std::collections::{BTreeMap, VecDeque};

use super::{Kind, Note, Slot, Step, Story, Write, Writer};
use crate::image::declare::Stack;
use crate::image::vectors::vector_name;
use crate::inject::{Boundary, Kind as Event, Session, Visitor};
use crate::kvm::VcpuState;
use crate::report::tracer::differences;

/// Instructions that are told of before an event, and after everything is at rest.
const AROUND: usize = 6;
/// Most that are told of in all.
const MOST: usize = 6000;

/// A frame's five words.
type Frame = [u64; 5];

/// An NMI that was delivered and not returned from.
struct Live {
    number: u32,
    frame: Frame,
    /// Where its frame lies whole: where the CPU put it, and copies.
    places: Vec<u64>,
}

/// A step, with the addresses that its slots will be made of.
struct Raw {
    step: Step,
    writes: Vec<(u64, Write)>,
}

/// Watches a run, and makes a [`Story`] of it.
#[derive(Default)]
pub struct Recorder {
    stacks: Vec<(Stack, Vec<u8>)>,
    /// The instruction under way, and the state before it.
    under_way: Option<(Raw, VcpuState)>,
    /// Notes and writes for the boundary that comes next.
    notes: Vec<Note>,
    writes: Vec<(u64, Write)>,
    live: Vec<Live>,
    delivered: u32,
    arrivals: u32,
    bodies: u8,
    number: u64,
    visits: BTreeMap<u64, u32>,
    told: Vec<Raw>,
    /// The last instructions that may not be worth telling.
    quiet: VecDeque<Raw>,
    after: usize,
    skipped: u64,
}

impl Recorder {
    /// Before the run.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run has ended: what was noted of it.
    pub fn finish(mut self, session: &Session) -> Story {
        self.look(session, None);
        self.settle(session);
        if let Some(last) = self.quiet.pop_back() {
            self.skipped += self.quiet.len() as u64;
            self.told.push(last);
        }
        if let Some(last) = self.told.last_mut() {
            last.step.notes.append(&mut self.notes);
            last.writes.append(&mut self.writes);
        }
        self.story()
    }

    fn note(&mut self, kind: Kind, text: String) {
        self.notes.push(Note { kind, text });
    }

    /// The declared stacks as they are now.
    fn read(session: &Session) -> Vec<(Stack, Vec<u8>)> {
        let m = session.machine();
        let cr3 = m.state().sregs.cr3;
        let stacks = m.guest().image.declared.stacks.iter();
        stacks
            .map(|stack| {
                let mut bytes = vec![0; (stack.range.end - stack.range.start) as usize];
                m.memory().read(cr3, stack.range.start, &mut bytes);
                (stack.clone(), bytes)
            })
            .collect()
    }

    fn word(&self, at: u64) -> Option<u64> {
        let (stack, bytes) = self.stacks.iter().find(|(s, _)| s.range.contains(&at))?;
        let from = (at - stack.range.start) as usize;
        bytes.get(from..from + 8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn frame(&self, at: u64) -> Option<Frame> {
        let mut frame = [0; 5];
        for (i, word) in frame.iter_mut().enumerate() {
            *word = self.word(at + 8 * i as u64)?;
        }
        Some(frame)
    }

    /// An address on a stack, as `T-40`.
    fn slot_name(&self, at: u64) -> Option<(String, String)> {
        let (stack, _) = self.stacks.iter().find(|(s, _)| s.range.start <= at && at <= s.range.end)?;
        Some((format!("T-{}", stack.range.end - at), stack.name.clone()))
    }

    fn value(&self, session: &Session, value: u64) -> String {
        if session.machine().guest().code.at(value).is_some() {
            return session.rules().names().show(value);
        }
        self.slot_name(value).map_or_else(|| format!("{value:#x}"), |(name, stack)| format!("{name} of {stack}"))
    }

    /// Notes the words that have changed since the last look; `frame` is one that the CPU
    /// has just pushed, and by which kind of writer.
    fn look(&mut self, session: &Session, frame: Option<Writer>) {
        let before = std::mem::replace(&mut self.stacks, Self::read(session));
        let rsp = session.machine().state().regs.rsp;
        let mut changed: Vec<u64> = Vec::new();
        for ((stack, now), (_, was)) in self.stacks.iter().zip(&before) {
            let words = now.chunks_exact(8).zip(was.chunks_exact(8)).enumerate();
            changed.extend(words.filter(|(_, (a, b))| a != b).map(|(i, _)| stack.range.start + 8 * i as u64));
        }
        let pushed = rsp..rsp + 40;
        if frame.is_some() {
            changed.extend((0..5).map(|i| rsp + 8 * i));
        } else if let Some((raw, state)) = &self.under_way {
            // A push of a value that was there already changes nothing, and is a write.
            if state.regs.rsp.wrapping_sub(rsp) == 8 && !raw.step.text.starts_with("sub") {
                changed.push(rsp);
            }
        }
        changed.sort_unstable();
        changed.dedup();
        let (nmi, bodies) = match &self.under_way {
            Some((raw, _)) => (self.live.last().map_or(0, |l| l.number), raw.step.bodies),
            None => (0, 0),
        };
        let code = match (nmi, bodies) {
            (0, _) => Writer::Work,
            (_, 0) => Writer::Entry,
            _ => Writer::Body,
        };
        for at in changed {
            let Some(word) = self.word(at) else { continue };
            let by = frame.filter(|_| at >= rsp && (pushed.contains(&at) || code != Writer::Work)).unwrap_or(code);
            let nmi = if frame == Some(Writer::Frame) { self.delivered } else { nmi };
            let write = Write { slot: 0, by, nmi, value: self.value(session, word), lost: false };
            self.writes.push((at, write));
        }
        self.follow(session, frame);
    }

    /// Finds copies of frames, and frames of which no copy is left.
    fn follow(&mut self, session: &Session, frame: Option<Writer>) {
        let mut copies: Vec<(u64, u32)> = Vec::new();
        for live in &self.live {
            for (at, _) in &self.writes {
                for place in (0..5).map(|i| at.wrapping_sub(8 * i)) {
                    if !live.places.contains(&place) && self.frame(place) == Some(live.frame) {
                        copies.push((place, live.number));
                    }
                }
            }
        }
        for (place, number) in copies {
            for (at, write) in &mut self.writes {
                if (place..place + 40).contains(at) && write.by == Writer::Entry {
                    (write.by, write.nmi) = (Writer::Copy, number);
                }
            }
            if let Some(live) = self.live.iter_mut().find(|l| l.number == number && !l.places.contains(&place)) {
                live.places.push(place);
            }
            // The words of the copy that were written before.
            for raw in self.told.iter_mut().chain(&mut self.quiet).chain(self.under_way.iter_mut().map(|(r, _)| r)) {
                for (at, write) in &mut raw.writes {
                    if (place..place + 40).contains(at) && write.by == Writer::Entry && write.nmi == number {
                        write.by = Writer::Copy;
                    }
                }
            }
        }
        let mut lost = Vec::new();
        for i in 0..self.live.len() {
            let frame = self.live[i].frame;
            let (whole, gone): (Vec<u64>, Vec<u64>) =
                self.live[i].places.iter().copied().partition(|place| self.frame(*place) == Some(frame));
            if whole.is_empty() && !gone.is_empty() {
                lost.push((self.live[i].number, gone.clone()));
            }
            self.live[i].places = whole;
        }
        for (number, places) in lost {
            let inside = |at: u64| places.iter().any(|p| (*p..*p + 40).contains(&at));
            let Some(first) = self.writes.iter().map(|(at, _)| *at).find(|at| inside(*at)) else { continue };
            self.writes.iter_mut().filter(|(at, _)| inside(*at)).for_each(|(_, w)| w.lost = true);
            let place = self.slot_name(first).map_or_else(|| format!("{first:#x}"), |(name, _)| name);
            let who = match (frame, self.live.last()) {
                (Some(Writer::Frame), _) => format!("The frame of NMI {}", self.delivered),
                (Some(_), _) => "A fault's frame".to_owned(),
                (None, Some(l)) if l.number != number => format!("The code of NMI {}", l.number),
                (None, _) => "The code".to_owned(),
            };
            let rip = self.live.iter().find(|l| l.number == number).map_or(0, |l| l.frame[0]);
            let back = self.value(session, rip);
            let text = format!(
                "{who} overwrites the frame of NMI {number} at {place}, of which no other copy is left on a stack: it \
                 was the way back to {back}."
            );
            self.note(Kind::Overwritten, text);
        }
    }

    /// Puts the instruction under way among those that are told of.
    fn settle(&mut self, session: &Session) {
        let Some((mut raw, before)) = self.under_way.take() else { return };
        let changes = differences(&before, session.machine().state());
        raw.step.changed = changes.iter().map(|(name, is)| format!("{name}={is}")).collect::<Vec<_>>().join(" ");
        let loud = raw.step.depth > 0 || !raw.step.notes.is_empty() || raw.step.pending;
        if loud && self.told.len() < MOST {
            self.told.extend(self.quiet.drain(..));
            self.told.push(raw);
            self.after = AROUND;
        } else if self.after > 0 && self.told.len() < MOST {
            self.after -= 1;
            self.told.push(raw);
        } else {
            self.quiet.push_back(raw);
            if self.quiet.len() > AROUND {
                self.quiet.pop_front();
                self.skipped += 1;
            }
        }
    }

    /// What the instruction under way has done, other than to write: returns and bodies.
    fn happened(&mut self, session: &Session) {
        let m = session.machine();
        let ghost = &session.oracle().ghost;
        let names = session.rules().names();
        let moved = self.under_way.is_some();
        if let Some(vector) = m.idt().vector_of(m.rip()).filter(|v| *v != 2 && moved) {
            let at = self.under_way.as_ref().map_or(String::new(), |(raw, _)| raw.step.at.clone());
            let (rsp, handler) = (m.state().regs.rsp, names.show(m.rip()));
            let to = self.slot_name(rsp).map_or_else(|| format!("{rsp:#x}"), |(name, _)| name);
            let text =
                format!("{} is raised at {at}; its frame lies at {to}, and {handler} begins.", vector_name(vector));
            self.look(session, Some(Writer::Fault));
            return self.note(Kind::Fault, text);
        }
        self.look(session, None);
        let was =
            self.under_way.as_ref().map(|(raw, _)| (raw.step.blocked, raw.step.at.clone(), raw.step.text.clone()));
        if let Some((blocked, at, text)) = was {
            let depth = ghost.frames.nmis() as usize;
            let left = self.live.len() > depth;
            if text.starts_with("iret") || left {
                let whose = self.live.get(depth).filter(|_| left).map_or(0, |l| l.number);
                let whose = if whose > 0 { format!("NMI {whose} is left: ") } else { String::new() };
                let unblocks = if blocked && !m.blocked() { ", and unblocks NMIs" } else { "" };
                let text =
                    format!("{whose}{} at {at} returns to {}{unblocks}.", first_word(&text), names.show(m.rip()));
                self.note(Kind::Return, text);
                self.live.truncate(depth);
            }
        }
        if ghost.bodies != self.bodies {
            let nmi = self.live.last().map_or(0, |l| l.number);
            let what = if ghost.bodies > self.bodies { "begins" } else { "ends" };
            let again = if ghost.bodies > 1 { ", while another is under way" } else { "" };
            self.note(Kind::Body, format!("The body {what} for NMI {nmi}{again}."));
            self.bodies = ghost.bodies;
        }
    }

    fn story(self) -> Story {
        let mut addresses: Vec<u64> =
            self.told.iter().flat_map(|r| &r.writes).filter(|(_, w)| w.by != Writer::Work).map(|(at, _)| *at).collect();
        addresses.sort_unstable_by(|a, b| b.cmp(a));
        addresses.dedup();
        let slots: Vec<Slot> = addresses
            .iter()
            .map(|at| {
                let (name, stack) = self.slot_name(*at).unwrap_or_default();
                Slot { addr: *at, name, stack }
            })
            .collect();
        let index: BTreeMap<u64, usize> = addresses.iter().enumerate().map(|(i, at)| (*at, i)).collect();
        let mut steps: Vec<Step> = Vec::with_capacity(self.told.len());
        for Raw { mut step, writes } in self.told {
            step.rsp = index.get(&step.stack_pointer).copied();
            let known = writes.into_iter().filter_map(|(at, w)| Some(Write { slot: *index.get(&at)?, ..w }));
            step.writes = known.collect();
            steps.push(step);
        }
        // What the next iretq consumes, from it back to the one before.
        let mut next: Vec<usize> = Vec::new();
        for step in steps.iter_mut().rev() {
            if step.text.starts_with("iret") {
                let words = (0..5).map(|i| step.stack_pointer + 8 * i);
                next = words.filter_map(|at| index.get(&at).copied()).collect();
            }
            step.consumes.clone_from(&next);
        }
        Story {
            scheme: String::new(),
            scenario: String::new(),
            mode: String::new(),
            replay: String::new(),
            verdict: "",
            rule: None,
            rule_name: None,
            ending: String::new(),
            slots,
            steps,
            skipped: self.skipped,
        }
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

impl Visitor for Recorder {
    fn boundary(&mut self, session: &Session) {
        if self.stacks.is_empty() {
            self.stacks = Self::read(session);
        }
        self.happened(session);
        self.settle(session);
        let m = session.machine();
        let rip = m.rip();
        let n = self.visits.entry(rip).or_default();
        *n += 1;
        self.number += 1;
        let step = Step {
            n: self.number,
            at: format!("{}#{n}", session.rules().names().show(rip)),
            text: m.next_instruction().map_or("(no instruction)".into(), |d| d.text().replace('\t', " ")),
            blocked: m.blocked(),
            pending: m.pending(),
            depth: session.oracle().ghost.frames.nmis(),
            bodies: session.oracle().ghost.bodies,
            notes: std::mem::take(&mut self.notes),
            stack_pointer: m.state().regs.rsp,
            ..Step::default()
        };
        let writes = std::mem::take(&mut self.writes);
        self.under_way = Some((Raw { step, writes }, *m.state()));
    }

    fn arrived(&mut self, session: &Session, event: Event) {
        let m = session.machine();
        let at = session.rules().names().show(m.rip());
        if event == Event::Nmi {
            self.arrivals += 1;
        }
        let number = if event == Event::Nmi { format!(" (number {})", self.arrivals) } else { String::new() };
        let text = format!("At {at} {}{number}.", event.told(Boundary::of(session)));
        let note = Note { kind: Kind::Arrival, text };
        match &mut self.under_way {
            Some((raw, _)) => raw.step.notes.push(note),
            None => self.notes.push(note),
        }
    }

    fn delivered(&mut self, session: &Session, event: Event) {
        // The instruction at this boundary has not run: it is recorded when it does. What was
        // said at it stands before the handler's first.
        if let Some((raw, _)) = self.under_way.take() {
            self.number -= 1;
            self.notes.splice(0..0, raw.step.notes);
            self.writes.splice(0..0, raw.writes);
        }
        if session.verdict().is_some() {
            return self.note(Kind::Delivery, format!("The delivery of {} fails.", event.the()));
        }
        let m = session.machine();
        if event.vector().is_some() {
            let entry = session.rules().names().show(m.rip());
            return self.note(Kind::Delivery, format!("There {} is delivered, and {entry} begins.", event.the()));
        }
        self.delivered += 1;
        let rsp = m.state().regs.rsp;
        let name = |at: u64| self.slot_name(at).map_or_else(|| format!("{at:#x}"), |(name, _)| name);
        let (from, to) = (name(rsp), name(rsp + 32));
        let entry = session.rules().names().show(m.rip());
        let text =
            format!("NMI {} is delivered: its frame is written to {from} … {to}, and {entry} begins.", self.delivered);
        self.note(Kind::Delivery, text);
        self.look(session, Some(Writer::Frame));
        let frame = self.frame(rsp).unwrap_or_default();
        self.live.push(Live { number: self.delivered, frame, places: vec![rsp] });
    }
}
