//! Numbers as horizontal bars.

use askama::Template;

use super::Part;
use crate::report::plain::plain;

const LEFT: u64 = 170;
const MOST: u64 = 420;
const ROW: u64 = 22;

struct Bar {
    name: String,
    text: String,
    class: &'static str,
    width: u64,
    y: u64,
}

#[derive(Template)]
#[template(path = "bars.html")]
struct Bars<'a> {
    title: &'a str,
    spoken: String,
    bars: Vec<Bar>,
    left: u64,
    width: u64,
    height: u64,
}

/// One bar for each name: `None` where there is no number, with the reason as its text. Bars of
/// mode pv have another colour.
pub fn bars(title: &str, rows: &[(String, bool, Option<f64>, String)]) -> Part {
    let most = rows.iter().filter_map(|(_, _, n, _)| *n).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let bar = |(i, (name, pv, number, text)): (usize, &(String, bool, Option<f64>, String))| Bar {
        name: plain(name).into_owned(),
        text: plain(text).into_owned(),
        class: if *pv { "f2" } else { "f1" },
        width: number.map_or(0, |n| (n / most * MOST as f64).round() as u64),
        y: 4 + ROW * i as u64,
    };
    let spoken = rows.iter().map(|(name, _, _, text)| format!("{} {}", plain(name), plain(text)));
    Part::of(&Bars {
        title,
        spoken: spoken.collect::<Vec<_>>().join(", "),
        bars: rows.iter().enumerate().map(bar).collect(),
        left: LEFT,
        width: LEFT + MOST + 200,
        height: 8 + ROW * rows.len() as u64,
    })
}
