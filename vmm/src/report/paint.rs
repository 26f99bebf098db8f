//! Colours of text. What a colour says is always said in words, too.

use anstyle::{AnsiColor, Style};

use super::format::Look;
use crate::oracle::Verdict;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// As it must be.
    Good,
    /// Not so.
    Bad,
    /// Nothing can be said.
    Warn,
    /// Something that happens.
    Event,
}

impl Ink {
    /// That of a verdict.
    pub fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Ink::Good,
            Verdict::HostLimit { .. } => Ink::Warn,
            _ => Ink::Bad,
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Ink::Good => AnsiColor::Green,
            Ink::Bad => AnsiColor::Red,
            Ink::Warn => AnsiColor::Yellow,
            Ink::Event => AnsiColor::Cyan,
        };
        Style::new().fg_color(Some(colour.into()))
    }
}

/// The text in its colour, where text may have one.
pub fn paint(look: &Look, ink: Ink, text: &str) -> String {
    let style = ink.style();
    if look.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_put_around_the_text_where_it_may_be() {
        let look = Look { colour: true, ..Look::default() };
        assert_eq!(paint(&look, Ink::Good, "pass"), "\u{1b}[32mpass\u{1b}[0m");
        assert_eq!(paint(&Look::default(), Ink::Bad, "livelock"), "livelock");
    }
}
