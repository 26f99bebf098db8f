//! One page for a browser, in one file that needs no network: tables that can be read without
//! JavaScript, pictures as inline SVG, light and dark.

mod bars;
mod compare;
mod heat;
mod matrix;
pub(super) mod page;
mod story;
mod strip;
mod table;

use std::io::{self, Write};

use askama::Template;

use super::format::{Format, Kind, Look, Report};

pub use compare::compare;
pub use heat::heat;
pub use matrix::matrix;
pub use page::{Mood, Page, Part, heading};
pub use story::story;
pub use strip::{Place, Tile, strip};
pub use table::{Cell, folded, table};

/// `--format html`.
pub struct Html;

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
        page.facts.retain(|(_, value)| !value.is_empty());
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
