//! Text that comes from a guest: panic messages, names, summaries, symbols. Whatever bytes it
//! holds, it stays inside its line, and does nothing to a terminal.

use std::borrow::Cow;

/// The text with control characters, line ends among them, written as escapes: `\n`, `\x1b`.
/// So are characters that change a line's direction. The result is valid in XML, too.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hostile(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if hostile(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The same for a text of several lines that is this program's: line ends stay.
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// The same, in place.
pub(super) fn make_plain(text: &mut String) {
    if let Cow::Owned(changed) = plain(text) {
        *text = changed;
    }
}

/// Control characters (C0, DEL, C1), line and paragraph separators, the characters that
/// override or isolate direction, and what XML 1.0 does not allow.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// A long text for a narrow cell: its middle gives way to `…`.
pub fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most || most < 3 {
        return text.to_owned();
    }
    let head = (most - 1).div_ceil(2);
    let tail = most - 1 - head;
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(count - tail));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_stays_on_its_line_and_leaves_the_terminal_alone() {
        let hostile = "\u{1b}[2J\u{1b}]0;pwned\u{7}pass\r\n  verdict pass\n\u{9b}31m \u{202e}x\u{2028}y\0";
        let shown = plain(hostile);
        assert_eq!(shown, r"\x1b[2J\x1b]0;pwned\x07pass\r\n  verdict pass\n\x9b31m \u{202e}x\u{2028}y\x00");
        assert_eq!(plain(&shown), shown, "it is the same again");
        assert!(matches!(plain("a plain one: ü → ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("nmi@a#1 nmi@b#2", 20), "nmi@a#1 nmi@b#2");
        assert_eq!(shortened("0123456789", 5), "01…89");
        assert_eq!(shortened("äöüäöüäöü", 4), "äö…ü");
    }
}
