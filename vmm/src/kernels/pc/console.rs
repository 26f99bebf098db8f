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

    /// Looks for an oops in what the console showed since the last look.
    pub(in crate::kernels) fn scan_console(&mut self) -> Option<Stop> {
        const SIGNS: [&str; 6] = ["Kernel panic", "Oops", "BUG:", "WARNING:", "general protection", "double fault"];
        let new = self.console(self.scanned);
        self.scanned = self.console_len();
        let line = new.lines().find(|l| SIGNS.iter().any(|s| l.contains(s)))?;
        (self.frozen.is_some() || line.contains("panic")).then(|| Stop::Oops(line.trim().to_owned()))
    }

    pub(in crate::kernels) fn rewind_console(&mut self) {
        self.scanned = self.console_len();
    }

    /// Who seems to have called the function under way: the first words on the stack
    /// that are addresses in the kernel's code.
    pub fn callers(&self, most: usize) -> Vec<String> {
        let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        let text = self.symbols.get("_stext")..self.symbols.get("_etext");
        let words = (0..512).filter_map(|i| self.memory().word(cr3, rsp.wrapping_add(8 * i)));
        words.filter(|w| text.contains(&Some(*w))).take(most).map(|w| self.symbols.show(w)).collect()
    }
}
