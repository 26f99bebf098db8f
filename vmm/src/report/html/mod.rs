//! One page for a browser, in one file that needs no network: tables that can be read without
//! JavaScript, pictures as inline SVG, light and dark.

mod bars;
mod compare;
mod matrix;
mod story;
mod table;

use std::io::{self, Write};

use askama::Template;

use super::format::{Format, Kind, Look, Report};

pub use compare::compare;
pub use matrix::matrix;
pub use story::story;
pub use table::{Cell, table};

/// `--format html`.
pub struct Html;

/// A part of a page, as HTML that one of the templates made.
pub struct Part(String);

impl Part {
    /// Of a template. Templates escape what they are given.
    fn of(template: &impl Template) -> Self {
        // Writing to a string cannot fail.
        Self(template.render().unwrap_or_default())
    }
}

/// What a reader is to think of something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It is as it must be.
    Good,
    /// It is not.
    Bad,
    /// Nothing can be said.
    Warn,
    /// None of these.
    Plain,
}

impl std::fmt::Display for Mood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mood::Good => "good",
            Mood::Bad => "bad",
            Mood::Warn => "warn",
            Mood::Plain => "",
        })
    }
}

/// A page.
pub struct Page {
    /// What the browser's tab says, too.
    pub title: String,
    /// The result in a sentence.
    pub lead: String,
    /// What the reader is to think of it.
    pub mood: Mood,
    /// The host, the image and the like.
    pub facts: Vec<(&'static str, String)>,
    /// All else, from top to bottom.
    pub parts: Vec<Part>,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Shell<'a> {
    page: &'a Page,
    style: &'static str,
    script: &'static str,
    version: &'static str,
}

impl Format for Html {
    fn name(&self) -> &'static str {
        "html"
    }

    fn fits(&self, kind: Kind) -> bool {
        kind.page
    }

    fn write(&self, report: &dyn Report, _: &Look, to: &mut dyn Write) -> io::Result<()> {
        let Some(mut page) = report.page() else { return Ok(()) };
        super::plain::make_plain(&mut page.title);
        super::plain::make_plain(&mut page.lead);
        page.facts.iter_mut().for_each(|(_, value)| super::plain::make_plain(value));
        let shell = Shell {
            page: &page,
            style: include_str!("../../../templates/style.css"),
            script: include_str!("../../../templates/page.js"),
            version: env!("CARGO_PKG_VERSION"),
        };
        shell.write_into(to).map_err(io::Error::other)
    }
}
