//! The story of a case on a real kernel, from its recording.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Note, Slot, Step, Story, Write, Writer, sentence};
use crate::debug::{Access, Error, KernelRun, Run, What};
use crate::kernels::KernelInfo;
use crate::report::tracer::differences;

/// Instructions that are told of around an event.
const AROUND: usize = 12;
/// Most that are told of in all: a livelock has no end, and a page has to open.
const MOST: usize = 1500;
const PAGE: u64 = 0xfff;
const WORD: u64 = 8;

/// A word of memory: where it lies in RAM, and the address that RSP would have there.
type Words = BTreeMap<u64, u64>;

/// An NMI that was delivered: where it is to return to.
struct Live {
    number: u32,
    returns_to: (u64, u64),
}

/// Tells what a recorded case did. `replay` is the command line that runs it again.
pub fn of_kernel(run: &mut KernelRun<'_>, kernel: &KernelInfo, schedule: String) -> Result<Story, Error> {
    let (mut steps, mut stack) = (Vec::new(), BTreeSet::new());
    let (mut live, mut delivered, mut visits) = (Vec::<Live>::new(), 0, BTreeMap::<u64, u32>::new());
    let mut before: Option<crate::kvm::VcpuState> = None;
    let mut events: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for event in &run.log().events {
        events.entry(event.after).or_default().push(event.clone());
    }
    let mut wrote: BTreeMap<usize, Vec<Access>> = BTreeMap::new();
    for access in run.log().accesses.iter().filter(|a| a.writes) {
        wrote.entry(access.by).or_default().push(*access);
    }
    for now in 0..=run.log().end() {
        run.go(now)?;
        let state = *run.vcpu();
        let here = (state.regs.rip, state.regs.rsp);
        if let Some(done) = live.iter().position(|l: &Live| l.returns_to == here) {
            live.truncate(done);
        }
        let events = events.remove(&now).unwrap_or_default();
        if let Some(was) = before.filter(|_| events.iter().any(|e| e.what == What::Delivery)) {
            delivered += 1;
            live.push(Live { number: delivered, returns_to: (was.regs.rip, was.regs.rsp) });
        }
        let kind = |what| match what {
            What::Arrival | What::Other => Some(Kind::Arrival),
            What::Delivery => Some(Kind::Delivery),
            What::Fault => Some(Kind::Fault),
            What::Return => Some(Kind::Return),
            What::End => None,
        };
        let notes = events.iter().filter_map(|e| Some(Note { kind: kind(e.what)?, text: capital(&e.text) + "." }));
        let frame = events.iter().find_map(|e| match e.what {
            What::Delivery => Some(Writer::Frame),
            What::Fault => Some(Writer::Fault),
            _ => None,
        });
        let by = frame.unwrap_or(if live.is_empty() { Writer::Work } else { Writer::Entry });
        let number = live.last().map_or(0, |l| l.number);
        let pc = run.pc()?;
        // What the move hither wrote.
        let wrote = now.checked_sub(1).and_then(|by| wrote.remove(&by)).unwrap_or_default();
        let words = wrote.iter().flat_map(|a| (a.addr & !(WORD - 1)..a.addr + u64::from(a.len)).step_by(WORD as usize));
        let word = |at: u64| pc.ram().get(at as usize..at as usize + 8)?.try_into().ok().map(u64::from_le_bytes);
        let written: Vec<(u64, Write)> = words
            .filter_map(|at| {
                let value = word(at)?;
                let value = if pc.symbols.in_text(value) { run.show(value) } else { format!("{value:#x}") };
                Some((at, Write { slot: 0, by, nmi: number, value, lost: false }))
            })
            .collect();
        let rsp = pc.physical(state.regs.rsp);
        stack.extend(rsp.map(|at| (at & !PAGE, state.regs.rsp & !PAGE)));
        let n = visits.entry(here.0).or_default();
        *n += 1;
        if let Some((last, was)) = steps.last_mut().zip(before).map(|((s, ..), was): (&mut (Step, _, _), _)| (s, was)) {
            let all = differences(&was, &state);
            last.changed = all.iter().map(|(name, is)| format!("{name}={is}")).collect::<Vec<_>>().join(" ");
        }
        let step = Step {
            n: now as u64 + 1,
            at: format!("{}#{n}", run.show(here.0)),
            text: pc.next_instruction().map_or("(no instruction)".into(), |d| d.text().replace('\t', " ")),
            blocked: state.events.nmi.masked != 0,
            pending: run.pending(),
            depth: live.len() as u32,
            notes: notes.collect(),
            stack_pointer: state.regs.rsp,
            ..Step::default()
        };
        steps.push((step, written, rsp));
        before = Some(state);
    }
    let verdict = run.verdict();
    let story = Story {
        scheme: kernel.version.clone(),
        scenario: schedule,
        mode: "native".into(),
        replay: run.again(),
        verdict: verdict.word(),
        rule: verdict.invariant().map(|i| i.to_string()),
        rule_name: verdict.invariant().map(|rule| rule.name()),
        ending: sentence(verdict),
        slots: Vec::new(),
        steps: Vec::new(),
        skipped: 0,
    };
    let mut story = with_stack(story, steps, &stack.into_iter().collect());
    if let Some(last) = story.steps.last_mut() {
        last.notes.push(Note { kind: Kind::End, text: story.ending.clone() });
    }
    Ok(story.near_events(AROUND, MOST))
}

/// A step, what was written on the way to it, and where RSP points to in RAM.
type Told = (Step, Vec<(u64, Write)>, Option<u64>);

/// The steps, with the words of the pages that RSP was in; `pages` has them by their place in RAM.
fn with_stack(mut story: Story, told: Vec<Told>, pages: &Words) -> Story {
    let virtual_of = |at: u64| pages.get(&(at & !PAGE)).map(|page| page + (at & PAGE));
    let wrote = told.iter().flat_map(|(_, written, _)| written);
    let mut slots: Vec<(u64, u64)> = wrote.filter_map(|(at, _)| Some((virtual_of(*at)?, *at))).collect();
    slots.sort_unstable_by(|a, b| b.cmp(a));
    slots.dedup();
    story.slots = slots
        .iter()
        .map(|(addr, _)| Slot {
            addr: *addr,
            name: format!("{:#05x}", addr & PAGE),
            stack: format!("{:#x}", addr & !PAGE),
        })
        .collect();
    let index: BTreeMap<u64, usize> = slots.iter().enumerate().map(|(i, (_, at))| (*at, i)).collect();
    let mut next: Vec<usize> = Vec::new();
    for (mut step, written, rsp) in told.into_iter().rev() {
        let slot = |at: u64| index.get(&at).copied();
        if step.text.starts_with("iret") {
            next = rsp.map_or(Vec::new(), |rsp| (0..5).filter_map(|i| slot(rsp + WORD * i)).collect());
        }
        step.consumes.clone_from(&next);
        step.rsp = rsp.and_then(slot);
        step.writes = written.into_iter().filter_map(|(at, w)| Some(Write { slot: slot(at)?, ..w })).collect();
        story.steps.push(step);
    }
    story.steps.reverse();
    story
}

/// As a sentence begins.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
