//! What things cost, as `vmm bench` says it.

use std::io::{self, Write};

use super::format::{Look, Report};
use super::json::pretty;
use super::{columns, plain};

impl Report for crate::bench::Bench {
    fn text(&self, _: &Look) -> String {
        self.to_string()
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }
}

impl Report for crate::kernels::Costs {
    fn text(&self, _: &Look) -> String {
        let Self { host, kernel, site, assists, .. } = self;
        let table = columns(["FROM", "TO", "CPL", "INSTRUCTIONS", "NMIS BLOCKED"], self.rows());
        let (file, version) = (plain(&kernel.file), plain(&kernel.version));
        format!("{file}\nhost   {host}\nkernel {version} ({})\nhelp for this host: {assists}\n\n", kernel.image)
            + &format!("one NMI at {}, until the interrupted code goes on\n{table}", plain(site))
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
