//! What a kernel is booted with.

use crate::kernels::pc::{Error, initrd};

/// How to run a kernel.
#[derive(Clone, Debug)]
pub struct Options {
    /// MiB of RAM.
    pub ram_mib: u64,
    /// Words for the command line, behind the lab's own.
    pub cmdline: String,
    /// The user's initial RAM disk; the lab's program is appended to it.
    pub initrd: Vec<u8>,
    /// How long the boot may last.
    pub boot_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { ram_mib: 256, cmdline: String::new(), initrd: Vec::new(), boot_seconds: 600 }
    }
}

/// The lab's machine has a serial line, a timer and interrupt controllers: this says
/// so, and keeps away what would only cost time or bring NMIs of its own.
const BASE: &str = "console=ttyS0 nokaslr reboot=k panic=-1 oops=panic pci=off acpi=off nosmp noapic nolapic \
    mitigations=off nopti nowatchdog cryptomgr.notests pty.legacy_count=0 random.trust_cpu=off tsc=nowatchdog no_timer_check";

/// The least RAM that any kernel comes up in, and the most: below the device hole.
const RAM_MIB: std::ops::RangeInclusive<u64> = 16..=3072;

impl Options {
    /// The RAM's size in bytes, if it is a sensible one.
    pub fn ram_bytes(&self) -> Result<u64, Error> {
        if RAM_MIB.contains(&self.ram_mib) {
            return Ok(self.ram_mib << 20);
        }
        let what = format!("it must be {} to {} MiB", RAM_MIB.start(), RAM_MIB.end());
        Err(Error::Ram { ram: self.ram_mib, what })
    }

    /// The command line. `host` is what this host's KVM needs (see `assist`).
    pub fn command_line(&self, host: &str, tsc_khz: Option<u32>) -> String {
        let mut words = vec![BASE.to_owned(), format!("rdinit={}", initrd::INIT)];
        if let Some(khz) = tsc_khz {
            words.push(format!("tsc_early_khz={khz}"));
        }
        words.extend([host, &self.cmdline].into_iter().filter(|w| !w.is_empty()).map(str::to_owned));
        words.join(" ")
    }
}
