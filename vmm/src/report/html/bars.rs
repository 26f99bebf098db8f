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

/// What one bar shows.
pub struct Figure {
    /// Whose number it is.
    pub name: String,
    /// It is of mode pv, whose bars have a colour of their own.
    pub pv: bool,
    /// The number; `None` where there is none.
    pub number: Option<f64>,
    /// The number in words, or why there is none.
    pub text: String,
}

/// One bar for each figure, the longest for the greatest number.
pub fn bars(title: &str, figures: &[Figure]) -> Part {
    let most = figures.iter().filter_map(|f| f.number).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let bar = |(i, f): (usize, &Figure)| Bar {
        name: plain(&f.name).into_owned(),
        text: plain(&f.text).into_owned(),
        class: if f.pv { "f2" } else { "f1" },
        width: f.number.map_or(0, |n| (n / most * MOST as f64).round() as u64),
        y: 4 + ROW * i as u64,
    };
    let spoken = figures.iter().map(|f| format!("{} {}", plain(&f.name), plain(&f.text)));
    Part::of(&Bars {
        title,
        spoken: spoken.collect::<Vec<_>>().join(", "),
        bars: figures.iter().enumerate().map(bar).collect(),
        left: LEFT,
        width: LEFT + MOST + 200,
        height: 8 + ROW * figures.len() as u64,
    })
}
