//! What the kernel said.

use super::{Pc, Stop};

impl Pc {
    /// The last lines of the console.
    pub fn console_tail(&self, lines: usize) -> String {
        let text = String::from_utf8_lossy(self.devices.console()).replace('\r', "");
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// All that the console showed, from byte `from` on.
    pub fn console(&self, from: usize) -> String {
        String::from_utf8_lossy(self.devices.console().get(from..).unwrap_or(&[])).into_owned()
    }

    /// Bytes that the console showed.
    pub fn console_len(&self) -> usize {
        self.devices.console().len()
    }

    /// No longer copies the console to where the boot showed it.
    pub fn end_echo(&mut self) {
        self.devices.end_echo();
    }

    /// Looks for a complaint in what the console showed since the last look. In a case that
    /// is any line, since what a kernel says there it does not say without NMIs. While the
    /// kernel comes up, and on the way to a site, it is an oops or a panic.
    pub(super) fn scan_console(&mut self) -> Option<Stop> {
        const SIGNS: [&str; 6] = ["Kernel panic", "Oops", "BUG:", "WARNING:", "general protection", "double fault"];
        let new = self.console(self.scanned);
        self.scanned = self.console_len();
        // What begins a report says nothing of it: the next line does.
        let lines = || new.lines().filter(|l| !l.trim().is_empty() && !l.contains("[ cut here ]"));
        let oops = lines().find(|l| SIGNS.iter().any(|s| l.contains(s)));
        let oops = oops.filter(|line| self.frozen.is_some() || line.contains("panic"));
        let line = oops.or_else(|| lines().next().filter(|_| self.silent))?;
        Some(Stop::Oops(line.trim().to_owned()))
    }

    /// What the console showed since the last look for complaints, as far as it is no whole
    /// line yet.
    pub fn unfinished_line(&self) -> Option<String> {
        let new = self.console(self.scanned);
        (!new.trim().is_empty()).then(|| new.trim().to_owned())
    }

    pub(super) fn rewind_console(&mut self) {
        self.scanned = self.console_len();
    }

    /// Who seems to have called the function under way: the first words on the stack
    /// that are addresses in the kernel's code.
    pub fn callers(&self, most: usize) -> Vec<String> {
        let rsp = self.state().regs.rsp;
        let words = (0..512).filter_map(|i| self.word(rsp.wrapping_add(8 * i)));
        words.filter(|w| self.symbols.in_text(*w)).take(most).map(|w| self.symbols.show(w)).collect()
    }
}
