//! Tables that fit the width of a terminal.

use comfy_table::{ContentArrangement, Table, presets};

use super::format::Look;

/// An empty table with lines between its columns. Where the text goes to a file, rows are as
/// wide as they must be, and one line each.
pub fn table(look: &Look) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    match look.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    match look.colour {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table
}
