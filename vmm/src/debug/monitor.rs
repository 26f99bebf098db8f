//! gdb's `monitor` commands: what the lab knows of NMIs, and what only the lab can do.

use std::fmt::Write;

use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd};

use super::Error;
use super::target::Debugged;
use crate::inject::Kind;

const HELP: &str = "\
monitor state          B, P, nesting depth, what is owed, live frames, and what the run comes to
monitor next           say what happens next; `continue` stops there, too
monitor last           say what happened last; `reverse-continue` stops there, too
monitor events         all that happens in this run
monitor inject [nmi]   let an NMI arrive here (or `unmask`); the run goes on from here anew
monitor line           the line that replays the run as it is now
monitor registers      what gdb does not show: GS, CR2, CR3, segments
";

impl MonitorCmd for Debugged<'_> {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Error> {
        let text = String::from_utf8_lossy(cmd);
        let words: Vec<&str> = text.split_whitespace().collect();
        let answer = match words[..] {
            ["state" | "nmi"] => self.state(),
            ["next"] => self.next(),
            ["last"] => self.last(),
            ["events"] => self.events(),
            ["inject"] => self.inject("nmi")?,
            ["inject", what] => self.inject(what)?,
            ["line"] => self.run.again() + "\n",
            ["registers"] => self.registers(),
            [] | ["help"] => HELP.to_owned(),
            _ => format!("unknown command {text:?}; there are:\n{HELP}"),
        };
        for line in answer.lines() {
            out.write_raw(format!("{}\n", (self.plain)(line)).as_bytes());
        }
        Ok(())
    }
}

impl Debugged<'_> {
    fn state(&self) -> String {
        let (run, log) = (&self.run, self.run.log());
        let at = log.boundary();
        let blocked = if run.vcpu().events.nmi.masked != 0 { "yes" } else { "no" };
        let mut out = format!("move {} of {}, at {}#{}\n", log.now, log.end(), run.show(at.addr), at.n);
        let _ = writeln!(out, "B, NMIs are blocked: {blocked}");
        out += &run.nmis();
        let _ = writeln!(out, "the run comes to: {}", run.verdict());
        if let Some(missed) = run.missed() {
            let _ = writeln!(out, "but {missed}");
        }
        out
    }

    fn next(&mut self) -> String {
        let now = self.run.log().now;
        match self.run.log().events.iter().find(|e| e.after > now) {
            Some(event) => {
                self.stops.goal = Some(event.after);
                format!("move {}: {}\n`continue` stops there\n", event.after, event.text)
            }
            None => "nothing happens any more: this is the end of the run\n".into(),
        }
    }

    fn last(&mut self) -> String {
        let now = self.run.log().now;
        match self.run.log().events.iter().rev().find(|e| e.after < now) {
            Some(event) => {
                self.stops.goal = Some(event.after);
                format!("move {}: {}\n`reverse-continue` stops there\n", event.after, event.text)
            }
            None => "nothing has happened before this\n".into(),
        }
    }

    fn events(&self) -> String {
        let mut out = String::new();
        for event in &self.run.log().events {
            let here = if event.after == self.run.log().now { '>' } else { ' ' };
            let _ = writeln!(out, "{here}{:>7} {}", event.after, event.text);
        }
        out
    }

    fn inject(&mut self, what: &str) -> Result<String, Error> {
        let kind = match what.parse::<Kind>() {
            Ok(kind) => kind,
            Err(e) => return Ok(format!("{e}\n")),
        };
        Ok(match self.run.inject(kind)? {
            Some(told) => {
                self.stops.goal = None;
                format!("{told}\nthe run now comes to: {}\n", self.run.verdict())
            }
            None => "the run has ended here: go back before something can arrive\n".into(),
        })
    }

    fn registers(&self) -> String {
        let state = self.run.vcpu();
        let s = &state.sregs;
        let mut out =
            format!("cr0 {:#x}  cr2 {:#x}  cr3 {:#x}  cr4 {:#x}  cr8 {:#x}\n", s.cr0, s.cr2, s.cr3, s.cr4, s.cr8);
        let _ = writeln!(out, "efer {:#x}  idt {:#x}  gdt {:#x}", s.efer, s.idt.base, s.gdt.base);
        for (name, segment) in
            [("cs", &s.cs), ("ss", &s.ss), ("ds", &s.ds), ("es", &s.es), ("fs", &s.fs), ("gs", &s.gs)]
        {
            let (selector, base, limit) = (segment.selector, segment.base, segment.limit);
            let _ = writeln!(out, "{name} {selector:#x}  base {base:#x}  limit {limit:#x}  dpl {}", segment.dpl);
        }
        out
    }
}
