//! A run as a story: a timeline, and one step at a time with the words of the stacks.

use askama::Template;

use super::{Mood, Part};
use crate::report::plain::{make_plain, plain};
use crate::report::story::{Kind, Step, Story};

const LEFT: f64 = 120.0;
const WIDTH: f64 = 930.0;
const LANE: u64 = 24;
/// Rows for the labels of marks, above the lanes.
const LABELS: usize = 4;
const LABEL: u64 = 13;

struct Lane {
    name: String,
    y: u64,
}

struct Segment {
    class: String,
    x: String,
    y: u64,
    width: String,
    height: u64,
    title: String,
}

struct Mark {
    class: &'static str,
    x: String,
    at: String,
    anchor: &'static str,
    from: u64,
    label: String,
    title: String,
}

struct Event {
    class: &'static str,
    step: usize,
    number: u64,
    at: String,
    text: String,
}

#[derive(Template)]
#[template(path = "story.html")]
struct Page<'a> {
    number: usize,
    heading: String,
    mood: Mood,
    story: &'a Story,
    height: u64,
    lanes: Vec<Lane>,
    segments: Vec<Segment>,
    marks: Vec<Mark>,
    events: Vec<Event>,
    data: String,
}

/// The story, the `number`-th of its page.
pub fn story(number: usize, story: &Story) -> Part {
    let story = &harmless(story);
    let deepest = story.steps.iter().map(|s| s.depth).max().unwrap_or(0);
    let top = 4 + LABEL * LABELS as u64;
    let lane = |depth: u32| top + LANE * u64::from(deepest - depth.min(deepest));
    let strips = top + LANE * u64::from(deepest + 1) + 4;
    let name = |depth: u32| if depth == 0 { "interrupted code".into() } else { format!("NMI, depth {depth}") };
    let mut lanes: Vec<Lane> = (0..=deepest).map(|d| Lane { name: name(d), y: lane(d) }).collect();
    lanes.push(Lane { name: "NMIs blocked".into(), y: strips - 6 });
    lanes.push(Lane { name: "NMI pending".into(), y: strips + 8 });
    let scale = Scale { steps: story.steps.len() };
    let mut segments = Vec::new();
    scale.runs(
        story,
        |s| (s.depth, s.bodies > 0),
        |first, last, (depth, body)| {
            let class =
                if body { "fb".to_owned() } else { format!("f{}", if depth == 0 { 0 } else { (depth - 1) % 4 + 1 }) };
            let what = if body { ", in the body" } else { "" };
            let title = format!("{}{what}: steps {} to {}", name(depth), story.steps[first].n, story.steps[last].n);
            segments.push(scale.segment(first, last, class, lane(depth), 15, title));
        },
    );
    let strip = |s: &Step| s.blocked;
    scale.runs(story, strip, |first, last, on| {
        if on {
            segments.push(scale.segment(first, last, "blk".into(), strips, 7, "NMIs are blocked".into()));
        }
    });
    scale.runs(
        story,
        |s| s.pending,
        |first, last, on| {
            if on {
                segments.push(scale.segment(first, last, "pend".into(), strips + 14, 7, "an NMI is pending".into()));
            }
        },
    );
    let heading = match (&story.rule, story.rule_name) {
        (Some(rule), Some(name)) => {
            format!("{} / {} / {}: {} of {rule}, {name}", story.scheme, story.scenario, story.mode, story.verdict)
        }
        _ => format!("{} / {} / {}: {}", story.scheme, story.scenario, story.mode, story.verdict),
    };
    let told = story.steps.iter().enumerate();
    let events = told.flat_map(|(i, s)| {
        s.notes.iter().map(move |n| Event {
            class: word(n.kind),
            step: i,
            number: s.n,
            at: s.at.clone(),
            text: n.text.clone(),
        })
    });
    Part::of(&Page {
        number,
        heading,
        mood: if story.verdict == "pass" { Mood::Good } else { Mood::Bad },
        story,
        height: strips + 28,
        lanes,
        segments,
        marks: marks(story, &scale),
        events: events.collect(),
        // In a script element, nothing may look like its end or like a comment.
        data: serde_json::to_string(story).unwrap_or_default().replace('<', "\\u003c"),
    })
}

/// The same, with all that a guest says made harmless.
fn harmless(story: &Story) -> Story {
    let mut story = story.clone();
    let Story { scheme, scenario, replay, ending, .. } = &mut story;
    [scheme, scenario, replay, ending].into_iter().for_each(make_plain);
    for slot in &mut story.slots {
        make_plain(&mut slot.stack);
    }
    for step in &mut story.steps {
        [&mut step.at, &mut step.text, &mut step.changed].into_iter().for_each(make_plain);
        step.notes.iter_mut().for_each(|n| make_plain(&mut n.text));
        step.writes.iter_mut().for_each(|w| make_plain(&mut w.value));
    }
    story
}

/// Steps along the timeline.
struct Scale {
    steps: usize,
}

impl Scale {
    fn x(&self, step: usize) -> f64 {
        LEFT + WIDTH * step as f64 / self.steps.max(1) as f64
    }

    fn segment(&self, first: usize, last: usize, class: String, y: u64, height: u64, title: String) -> Segment {
        let (x, width) = (self.x(first), self.x(last + 1) - self.x(first));
        let title = plain(&title).into_owned();
        Segment { class, x: format!("{x:.1}"), y, width: format!("{:.1}", width.max(0.8)), height, title }
    }

    /// Neighbouring steps of which `key` is the same.
    fn runs<K: PartialEq + Copy>(
        &self,
        story: &Story,
        key: impl Fn(&Step) -> K,
        mut each: impl FnMut(usize, usize, K),
    ) {
        let mut first = 0;
        for i in 1..=story.steps.len() {
            let Some(before) = story.steps.get(i - 1) else { return };
            if story.steps.get(i).is_none_or(|s| key(s) != key(before)) {
                each(first, i - 1, key(before));
                first = i;
            }
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Cut => "cut",
        Kind::Arrival => "arrival",
        Kind::Delivery => "delivery",
        Kind::Fault => "fault",
        Kind::Return => "return",
        Kind::Body => "body",
        Kind::Overwritten => "overwritten",
        Kind::End => "end",
    }
}

/// What a mark says in a word or two.
fn label(kind: Kind, text: &str, story: &Story) -> String {
    match kind {
        Kind::Arrival if !text.to_ascii_lowercase().contains("an nmi arrives") => "unmasked from outside".into(),
        Kind::Arrival => "NMI arrives".into(),
        Kind::Delivery => "delivered".into(),
        Kind::Fault => text.split_whitespace().next().unwrap_or_default().to_owned(),
        Kind::Return if text.contains("unblocks") => "returns, unblocks".into(),
        Kind::Return => "returns".into(),
        Kind::Overwritten => "frame overwritten".into(),
        Kind::End => story.rule.as_ref().map_or("✓ pass".into(), |rule| format!("✗ {rule}")),
        Kind::Cut => "…".into(),
        Kind::Body => String::new(),
    }
}

/// The marks; labels that would collide go to another row, and what finds none is told when
/// it is pointed at.
fn marks(story: &Story, scale: &Scale) -> Vec<Mark> {
    const CHARACTER: f64 = 6.1;
    let mut taken: [Vec<(f64, f64)>; LABELS] = Default::default();
    let mut out = Vec::new();
    let notes = story.steps.iter().enumerate().flat_map(|(i, s)| s.notes.iter().map(move |n| (i, n)));
    let mut notes: Vec<_> = notes.filter(|(_, n)| n.kind != Kind::Body).collect();
    // What matters most gets its label first.
    notes.sort_by_key(|(i, n)| (std::cmp::Reverse(n.kind), *i));
    for (i, note) in notes {
        let x = scale.x(i) + WIDTH / story.steps.len().max(1) as f64 / 2.0;
        let mut text = label(note.kind, &note.text, story);
        let width = text.chars().count() as f64 * CHARACTER;
        let right = x + width > LEFT + WIDTH;
        let span = if right { (x - width - 6.0, x) } else { (x, x + width + 6.0) };
        let free = |row: &Vec<(f64, f64)>| row.iter().all(|(a, b)| span.1 < *a || *b < span.0);
        let row = taken.iter().position(free);
        match row {
            Some(row) => taken[row].push(span),
            None => text.clear(),
        }
        out.push(Mark {
            class: word(note.kind),
            x: format!("{x:.1}"),
            at: format!("{:.1}", if right { x - 3.0 } else { x + 3.0 }),
            anchor: if right { "end" } else { "start" },
            from: 2 + LABEL * row.unwrap_or(0) as u64,
            label: text,
            title: plain(&note.text).into_owned(),
        });
    }
    out
}
