//! How work gets on, on standard error: a bar where that is a terminal, and otherwise a line every
//! ten seconds.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::lines::{EVERY, Lines};
use super::out::say;
use crate::folder::Watcher;

/// Work whose amount is known; its message is last.
pub const AMOUNT: &str = "{bar:24} {percent:>3}% {elapsed} · {left} left · {wide_msg}";
/// Work of which nobody knows how much there is.
pub const UNKNOWN: &str = "{spinner} {elapsed} · {msg}";

/// A bar of this look, which is drawn.
pub fn bar(template: &str) -> ProgressBar {
    let bar = still(template);
    tick(&bar);
    bar
}

/// The same, not yet drawn.
fn still(template: &str) -> ProgressBar {
    let (target, template) = match std::io::stderr().is_terminal() {
        true => (ProgressDrawTarget::stderr(), template.to_owned()),
        // A log wants words.
        false => {
            let words = template.replace("{bar:24} ", "").replace("{spinner} ", "");
            (ProgressDrawTarget::term_like(Box::<Lines>::default()), words)
        }
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.with_key("left", left));
    }
    bar
}

/// How long it will take, if what is left goes as what was done. An estimate by the last few seconds
/// goes astray where one unit takes minutes.
fn left(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    let left = match (state.pos(), state.len()) {
        (done @ 1.., Some(of)) => {
            let share = of.saturating_sub(done) as f64 / done as f64;
            Duration::try_from_secs_f64(state.elapsed().as_secs_f64() * share).ok()
        }
        _ => None,
    };
    let _ = match left {
        Some(left) => write!(to, "{:#}", HumanDuration(left)),
        None => to.write_str("?"),
    };
}

/// Has a bar drawn by a thread, though nothing happens: several times a second where somebody looks.
fn tick(bar: &ProgressBar) {
    let looks = std::io::stderr().is_terminal();
    bar.enable_steady_tick(if looks { Duration::from_millis(200) } else { EVERY });
}

/// A campaign's progress bar.
pub struct Bar {
    bar: ProgressBar,
    cases: u64,
}

impl Bar {
    /// Shows nothing yet.
    pub fn new() -> Self {
        Self { bar: still(AMOUNT), cases: 0 }
    }
}

impl Watcher for Bar {
    fn begin(&mut self, units: u64, done: u64) {
        // What was run before says nothing of how long the rest takes.
        self.bar.set_length(units - done.min(units));
        tick(&self.bar);
        if done > 0 {
            let line = format!("{done} of {units} units were run before; going on from there");
            match std::io::stderr().is_terminal() {
                true => self.bar.println(format!("vmm: {line}")),
                false => say(line),
            }
        }
    }

    fn unit(&mut self, first: &str, second: &str, cases: u64) {
        self.cases += cases;
        let rate = self.cases as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!("{} cases, {rate:.0}/s · {first} / {second}", self.cases));
        self.bar.inc(1);
    }

    fn damaged(&mut self, what: &str) {
        say(what);
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
