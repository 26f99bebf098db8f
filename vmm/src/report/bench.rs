//! What things cost, as `vmm bench` says it.

use std::io::{self, Write};

use super::format::{Look, Report};
use super::json::pretty;

impl Report for crate::bench::Bench {
    fn text(&self, _: &Look) -> String {
        self.to_string()
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }
}

impl Report for crate::kernels::Bench {
    fn text(&self, _: &Look) -> String {
        self.to_string()
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }
}
