//! A table.

use askama::Template;

use super::{Mood, Part};
use crate::report::plain::plain;

/// A cell.
pub struct Cell {
    text: String,
    class: String,
}

impl Cell {
    /// A text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self { text: plain(text.as_ref()).into_owned(), class: String::new() }
    }

    /// A number, which stands at the right.
    pub fn number(number: impl std::fmt::Display) -> Self {
        Self { text: number.to_string(), class: "n".into() }
    }

    /// A judgement.
    pub fn judged(mood: Mood, text: impl AsRef<str>) -> Self {
        let sign = match mood {
            Mood::Good => "✓ ",
            Mood::Bad => "✗ ",
            Mood::Warn => "! ",
            Mood::Plain => "",
        };
        Self { text: format!("{sign}{}", plain(text.as_ref())), class: mood.to_string() }
    }
}

#[derive(Template)]
#[template(path = "table.html")]
struct Table<'a> {
    title: &'a str,
    header: &'a [&'a str],
    rows: &'a [Vec<Cell>],
}

#[derive(Template)]
#[template(path = "folded.html")]
struct Folded<'a> {
    title: &'a str,
    about: &'a str,
    open: bool,
    table: Part,
}

/// A long table that a click opens, with what it comes to beside its heading.
pub fn folded(title: &str, about: &str, open: bool, header: &[&str], rows: &[Vec<Cell>]) -> Part {
    let table = table("", header, rows);
    Part::of(&Folded { title: &plain(title), about: &plain(about), open, table })
}

/// A table with a heading above it, unless that is empty.
pub fn table(title: &str, header: &[&str], rows: &[Vec<Cell>]) -> Part {
    Part::of(&Table { title: &plain(title), header, rows })
}
