//! How a kernel that ran to its end by itself ended.

use std::io::{self, Write};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::json::pretty;
use super::plain::plain;
use crate::kernels::Ended;

impl Report for Ended {
    fn text(&self, _: &Look) -> String {
        let console: String = self.console.lines().map(|line| format!("{}\n", plain(line.trim_end()))).collect();
        format!("{console}\nhost       {} (assists: {})\nexit       {}\n", self.host, self.assists, self.exit)
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let last = || self.console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        let outcome = match self.exit {
            0 => Outcome::Passed,
            exit => Outcome::Failed { message: format!("it exits with {exit}"), lines: vec![last()] },
        };
        let properties = vec![("host", self.host.to_string()), ("image", self.image.clone())];
        let test = Test { class: "run".into(), name: self.file.clone(), outcome };
        Some(Suite { name: "vmm kernel".into(), properties, tests: vec![test] })
    }
}
