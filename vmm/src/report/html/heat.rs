//! The heat map of a scheme's entry code.

use askama::Template;

use super::Part;
use crate::inject::coverage::Known;
use crate::oracle::{VerdictKind, Word};
use crate::report::heat::{Failing, Heat, Line};
use crate::report::plain::plain;

struct Badge {
    class: &'static str,
    text: String,
    title: String,
}

struct Row {
    label: Option<String>,
    class: &'static str,
    place: String,
    text: String,
    source: String,
    comment: String,
    badges: Vec<Badge>,
    ended: Vec<Badge>,
    ends: Vec<(String, String)>,
    begins: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "heat.html")]
struct Page {
    scheme: String,
    source: bool,
    ended: bool,
    columns: usize,
    summary: String,
    rows: Vec<Row>,
}

/// The heat map.
pub fn heat(heat: &Heat) -> Part {
    let count = |class| heat.lines.iter().filter(|l| worst(l) == class).count();
    let summary = format!(
        "{} instructions: {} where a failing schedule ends, {} where every arrival that is delivered was tried, {} \
         where arrivals are only latched, {} open, {} not seen",
        heat.lines.len(),
        count("fails"),
        count("injected"),
        count("latched"),
        count("open"),
        count("never")
    );
    let proved = match &heat.proved[..] {
        [] => String::new(),
        some => format!(". Searches to closure found that all that arrives passes in: {}", some.join(", ")),
    };
    Part::of(&Page {
        scheme: plain(&heat.scheme).into_owned(),
        source: heat.source,
        ended: heat.ended,
        columns: 4 + usize::from(heat.source) + usize::from(heat.ended),
        summary: summary + &plain(&proved),
        rows: heat.lines.iter().map(row).collect(),
    })
}

/// What a reader is to see of an instruction first.
fn worst(line: &Line) -> &'static str {
    let any = |known: Known| line.contexts.iter().any(|(_, k)| *k == known);
    match () {
        () if !line.ends.is_empty() => "fails",
        () if line.contexts.is_empty() => "never",
        () if any(Known::Open) => "open",
        () if any(Known::Injected) => "injected",
        () => "latched",
    }
}

fn row(line: &Line) -> Row {
    let badge = |(known, class, word): (Known, &'static str, &str)| {
        let contexts: Vec<&str> = line.contexts.iter().filter(|(_, k)| *k == known).map(|(c, _)| c.as_str()).collect();
        (!contexts.is_empty()).then(|| Badge {
            class,
            text: if contexts.len() == 1 { word.to_owned() } else { format!("{word} ×{}", contexts.len()) },
            title: plain(&contexts.join("; ")).into_owned(),
        })
    };
    let kinds = [
        (Known::Injected, "injected", "injected"),
        (Known::Latched, "latched", "latched"),
        (Known::Open, "open", "open"),
    ];
    let told = |failing: &[Failing]| {
        let one = |f: &Failing| {
            let text = format!("{} in {}", f.verdict, f.scenario);
            (plain(&text).into_owned(), plain(&f.schedule).into_owned())
        };
        failing.iter().map(one).collect()
    };
    let ended = |(verdict, cases): &(VerdictKind, u64)| {
        let (class, sign) = match verdict.verdict {
            Word::Pass => ("injected", "✓"),
            Word::HostLimit => ("open", "!"),
            Word::Violation | Word::Livelock | Word::Shutdown => ("failed", "✗"),
        };
        Badge { class, text: format!("{sign} {verdict} ×{cases}"), title: String::new() }
    };
    let (source, comment) = line.source.clone().unwrap_or_default();
    Row {
        label: line.label.as_deref().map(|l| plain(l).into_owned()),
        class: worst(line),
        place: plain(&line.place).into_owned(),
        text: plain(&line.text).into_owned(),
        source: plain(&source).into_owned(),
        comment,
        badges: kinds.into_iter().filter_map(badge).collect(),
        ended: line.ended.iter().map(ended).collect(),
        ends: told(&line.ends),
        begins: told(&line.begins),
    }
}
