//! A path as a strip: one column for each boundary, one row for each way to run through it.

use askama::Template;

use super::Part;
use crate::report::plain::plain;

const LEFT: usize = 150;
const WIDTH: usize = 1000;
const ROW: usize = 26;
/// Room for the names of boundaries below.
const FOOT: usize = 20;
/// Between two names.
const SPACE: f64 = 8.0;

/// What a boundary came to, at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// As it must be.
    Good,
    /// A failure that is expected there.
    Allowed,
    /// A failure that is not.
    Defect,
    /// Nothing can be said.
    Unknown,
}

impl Tile {
    fn class(self) -> &'static str {
        match self {
            Tile::Good => "t-good",
            Tile::Allowed => "t-allowed",
            Tile::Defect => "t-defect",
            Tile::Unknown => "t-unknown",
        }
    }
}

/// A boundary on a row.
pub struct Place {
    /// The boundary.
    pub name: String,
    /// What it came to.
    pub tile: Tile,
    /// Whatever happens there is accepted.
    pub any: bool,
    /// Everything about it.
    pub title: String,
}

struct Rect {
    x: String,
    y: usize,
    width: String,
    class: &'static str,
    any: bool,
    title: String,
}

struct Label {
    text: String,
    y: usize,
}

/// Where the path comes to another symbol; nameless where there is no room for it.
struct Mark {
    x: String,
    name: String,
}

#[derive(Template)]
#[template(path = "strip.html")]
struct Strip {
    title: String,
    spoken: String,
    labels: Vec<Label>,
    rects: Vec<Rect>,
    marks: Vec<Mark>,
    last: String,
    left: usize,
    right: usize,
    height: usize,
}

/// How wide a text is drawn, roughly.
fn wide(text: &str) -> f64 {
    6.4 * text.chars().count() as f64
}

/// Marks for the columns at which the symbol changes; names end before `end`.
fn marks(columns: &[&str], each: f64, end: f64) -> Vec<Mark> {
    let symbol = |column: &str| column.split(['+', '#']).next().unwrap_or_default().to_owned();
    let (mut free, mut before, mut out) = (0.0, String::new(), Vec::new());
    for (i, column) in columns.iter().enumerate() {
        let name = symbol(column);
        if name == before {
            continue;
        }
        before.clone_from(&name);
        let x = LEFT as f64 + each * i as f64;
        let fits = x >= free && x + wide(&name) <= end;
        if fits {
            free = x + wide(&name) + SPACE;
        }
        let name = if fits { plain(&name).into_owned() } else { String::new() };
        out.push(Mark { x: format!("{x:.2}"), name });
    }
    out
}

/// The strip. Rows may have different boundaries: a column is a boundary of any of them, in the
/// order in which the rows have them.
pub fn strip(title: &str, rows: &[(String, Vec<Place>)]) -> Part {
    let mut columns: Vec<&str> = Vec::new();
    for place in rows.iter().flat_map(|(_, places)| places) {
        if !columns.contains(&place.name.as_str()) {
            columns.push(&place.name);
        }
    }
    let each = WIDTH as f64 / columns.len().max(1) as f64;
    let mut rects = Vec::new();
    for (i, (_, places)) in rows.iter().enumerate() {
        for place in places {
            let column = columns.iter().position(|c| *c == place.name).unwrap_or(0);
            rects.push(Rect {
                x: format!("{:.2}", LEFT as f64 + each * column as f64),
                y: 4 + ROW * i,
                width: format!("{:.2}", (each - 0.6).max(0.6)),
                class: place.tile.class(),
                any: place.any,
                title: plain(&place.title).into_owned(),
            });
        }
    }
    let count = |places: &[Place], tile: Tile| places.iter().filter(|p| p.tile == tile).count();
    let spoken = rows.iter().map(|(name, places)| {
        let (defects, allowed) = (count(places, Tile::Defect), count(places, Tile::Allowed));
        format!("{name}: {} boundaries, {defects} defects, {allowed} expected failures", places.len())
    });
    let last = plain(columns.last().copied().unwrap_or_default()).into_owned();
    Part::of(&Strip {
        title: plain(title).into_owned(),
        spoken: plain(&spoken.collect::<Vec<_>>().join("; ")).into_owned(),
        labels: rows.iter().enumerate().map(|(i, (name, _))| Label { text: name.clone(), y: 20 + ROW * i }).collect(),
        rects,
        marks: marks(&columns, each, LEFT as f64 + WIDTH as f64 - wide(&last) - SPACE),
        last,
        left: LEFT,
        right: LEFT + WIDTH,
        height: 4 + ROW * rows.len() + FOOT,
    })
}
