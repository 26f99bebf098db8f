//! Schemes × scenarios, each with its verdict, and what is behind it.

use askama::Template;

use super::{Mood, Part, story};
use crate::report::document::{Document, Row, verdict};

struct Cell {
    number: usize,
    mood: Mood,
    sign: &'static str,
    word: String,
    /// `proved` or `sampled`.
    how: &'static str,
    cases: String,
    surprise: bool,
}

struct Line {
    scheme: String,
    cells: Vec<Option<Cell>>,
}

struct Detail {
    number: usize,
    mood: Mood,
    sign: &'static str,
    word: String,
    name: String,
    judgement: String,
    facts: Vec<(&'static str, String)>,
    failures: Vec<(String, String)>,
    /// Its shortest failing schedule, as HTML that a template made.
    story: Option<String>,
}

#[derive(Template)]
#[template(path = "matrix.html")]
struct Matrix {
    scenarios: Vec<String>,
    lines: Vec<Line>,
    details: Vec<Detail>,
}

/// The matrix of a campaign.
pub fn matrix(document: &Document) -> Part {
    let stories = &document.pictures.stories;
    let document = &document.plain();
    let mut scenarios: Vec<String> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for row in &document.rows {
        if !scenarios.contains(&row.scenario) {
            scenarios.push(row.scenario.clone());
        }
    }
    for (number, row) in document.rows.iter().enumerate() {
        if lines.iter().all(|l| l.scheme != row.scheme) {
            lines.push(Line { scheme: row.scheme.clone(), cells: scenarios.iter().map(|_| None).collect() });
        }
        let line = lines.iter_mut().find(|l| l.scheme == row.scheme);
        let column = scenarios.iter().position(|s| *s == row.scenario);
        if let Some(place) = line.zip(column).and_then(|(line, i)| line.cells.get_mut(i)) {
            *place = Some(cell(number, row));
        }
    }
    let details = document.rows.iter().enumerate().map(|(number, row)| Detail {
        story: stories.get(&number).map(|told| story(number, told).0),
        ..detail(number, row)
    });
    let details = details.collect();
    Part::of(&Matrix { scenarios, lines, details })
}

/// Colour and sign are those of the verdict, whatever was expected.
fn looks(row: &Row) -> (Mood, &'static str) {
    match row.verdict {
        "pass" => (Mood::Good, "✓"),
        "violation" => (Mood::Bad, "✗"),
        "livelock" => (Mood::Bad, "∞"),
        "shutdown" => (Mood::Bad, "↯"),
        "no-cases" => (Mood::Warn, "∅"),
        _ => (Mood::Warn, "!"),
    }
}

fn how(row: &Row) -> &'static str {
    match &row.coverage {
        Some(c) if c.unreachable.is_some() => "proved",
        _ if row.no_cases() => "nothing run",
        _ => "sampled",
    }
}

fn cell(number: usize, row: &Row) -> Cell {
    let (mood, sign) = looks(row);
    let unit = if how(row) == "proved" { "states" } else { "cases" };
    Cell {
        number,
        mood,
        sign,
        word: verdict(row.verdict, row.invariant.as_deref()),
        how: how(row),
        cases: format!("{} {unit}", row.cases),
        surprise: row.as_expected == Some(false),
    }
}

fn detail(number: usize, row: &Row) -> Detail {
    let (mood, sign) = looks(row);
    let mut facts = vec![
        ("cases", row.cases.to_string()),
        ("by verdict", row.counts.iter().map(|(w, n)| format!("{n} {w}")).collect::<Vec<_>>().join(", ")),
        (
            "evidence",
            match how(row) {
                "proved" => "proved: the search closed, and covers every number, timing and nesting of arrivals".into(),
                other => format!("{other}: what was not tried is not known"),
            },
        ),
        ("run again in another gear", format!("{}, {} disagree", row.rechecked, row.disagreements.len())),
    ];
    if let Some(c) = &row.coverage {
        let words = format!("{} = {} injected + {} latched + {} open", c.boundaries, c.injected, c.latched, c.open);
        facts.push(("boundaries by context", words));
    }
    if row.missing > 0 {
        facts.push(("missing", format!("{} units of work", row.missing)));
    }
    let failure = |f: &crate::report::FailureRow| {
        let word = verdict(f.verdict, f.invariant.as_deref());
        (format!("{word} in {} cases: {}", f.cases, f.detail), f.replay.clone())
    };
    Detail {
        number,
        mood,
        sign,
        word: verdict(row.verdict, row.invariant.as_deref()),
        name: format!("{} / {} / {}", row.scheme, row.scenario, row.mode),
        judgement: match row.as_expected {
            Some(true) => "as expected".into(),
            Some(false) => format!("expected {}", row.expected),
            None => format!("not known whether it is {}, as expected", row.expected),
        },
        facts,
        failures: row.failures.iter().map(failure).collect(),
        story: None,
    }
}
