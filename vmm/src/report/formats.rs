//! The formats that any report can be written in. A new one is a file beside this one, and an
//! entry in [`FORMATS`].

use super::format::Format;
use super::{html::Html, json::Json, junit::Junit, ktap::Ktap, terminal::Text};

/// All formats, in the order that help lists them.
pub static FORMATS: [&dyn Format; 5] = [&Text, &Json, &Junit, &Ktap, &Html];

/// The format of this name.
pub fn format(name: &str) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|f| f.name() == name)
}

/// The names of all formats, for messages.
pub fn names() -> String {
    FORMATS.map(Format::name).join(", ")
}
