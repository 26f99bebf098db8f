//! What a page consists of.

use askama::Template;

/// A part of a page, as HTML that one of the templates made.
pub struct Part(pub(super) String);

impl Part {
    /// Of a template. Templates escape what they are given.
    pub(super) fn of(template: &impl Template) -> Self {
        // Writing to a string cannot fail.
        Self(template.render().unwrap_or_default())
    }
}

/// A heading that a link can lead to.
pub fn heading(id: &'static str, text: &'static str) -> Part {
    Part::of(&Heading { id, text })
}

#[derive(Template)]
#[template(source = "<h2 id=\"{{ id }}\">{{ text }}</h2>", ext = "html")]
struct Heading {
    id: &'static str,
    text: &'static str,
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
