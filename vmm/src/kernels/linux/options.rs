//! What a kernel is booted with.

use super::initrd;
use crate::kernels::pc::Error;

/// How to run a kernel.
#[derive(Clone, Debug)]
pub struct Options {
    /// MiB of RAM.
    pub ram_mib: u64,
    /// Words for the command line, behind the lab's own.
    pub cmdline: String,
    /// The user's initial RAM disk; the lab's program is appended to it.
    pub initrd: Vec<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Self { ram_mib: 256, cmdline: String::new(), initrd: Vec::new() }
    }
}

/// The lab's machine has a serial line, a timer and interrupt controllers: this says
/// so, and keeps away what would only cost time or bring NMIs of its own. Between the two parts
/// stand the words of [`Options::mitigations`].
const MACHINE: &str = "console=ttyS0 nokaslr reboot=k panic=-1 oops=panic pci=off acpi=off nosmp noapic nolapic";
const QUIET: &str =
    "nowatchdog cryptomgr.notests pty.legacy_count=0 random.trust_cpu=off tsc=nowatchdog no_timer_check";

/// Words for the command line of a kernel on a host that shows more CPUID features
/// than it was told to.
///
/// Host kvm_pvm: CPL 0 is emulated, and of these features' instructions the emulator
/// knows none (symptom: KVM_EXIT_INTERNAL_ERROR, suberror 1), yet CPUID says they are
/// there whatever KVM_SET_CPUID2 said. Linux takes numbers (word * 32 + bit): smap,
/// smep, umip, xsave, erms, fsrm, rdrand, rdseed, popcnt, sse4_2, ssse3,
/// invpcid, cx16; and for the crypto code sse4_1, aes, pclmulqdq, sha_ni, gfni, vaes,
/// vpclmulqdq. Kernels before 5.10 take one number only, and cannot be helped so.
///
/// The init calls (a self-test, certificates, tracing's tables) do nothing for the NMI
/// path, and take seconds to minutes where each instruction is emulated.
pub const HOST_WORDS: &str = "clearcpuid=308,295,514,154,297,580,158,306,151,148,137,298,141,147,153,129,317,520,521,522 \
    initcall_blacklist=blake2s_mod_init,load_system_certificate_list,trace_eval_init,trace_eval_sync,\
    init_kprobes,ftrace_check_sync,ftrace_check_for_weak_functions";

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

    /// What is said about mitigations where the user's words do not: they are off, since a KVM
    /// that emulates CPL 0 lacks some of their instructions (VERW), and runs each of the others
    /// for a third of a microsecond.
    pub fn mitigations(&self) -> &'static str {
        let named = |names: &[&str]| self.cmdline.split_whitespace().any(|w| names.iter().any(|n| w.starts_with(n)));
        match (named(&["mitigations="]), named(&["pti=", "nopti"])) {
            (true, _) => "",
            (false, true) => "mitigations=off",
            (false, false) => "mitigations=off nopti",
        }
    }

    /// The words that were chosen: the user's, and those about mitigations.
    pub fn chosen(&self) -> String {
        format!("{} {}", self.mitigations(), self.cmdline).trim().to_owned()
    }

    /// The command line; `helped` on a host that needs [`HOST_WORDS`].
    pub fn command_line(&self, helped: bool, tsc_khz: Option<u32>) -> String {
        let host = if helped { HOST_WORDS } else { "" };
        let parts = [MACHINE, self.mitigations(), QUIET];
        let mut words: Vec<String> = parts.into_iter().filter(|w| !w.is_empty()).map(str::to_owned).collect();
        words.push(format!("rdinit={}", initrd::INIT));
        if let Some(khz) = tsc_khz {
            words.push(format!("tsc_early_khz={khz}"));
        }
        words.extend([host, &self.cmdline].into_iter().filter(|w| !w.is_empty()).map(str::to_owned));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_about_mitigations_counts() {
        let with = |cmdline: &str| Options { cmdline: cmdline.into(), ..Options::default() };
        assert_eq!(with("quiet").mitigations(), "mitigations=off nopti");
        assert_eq!(with("pti=on").chosen(), "mitigations=off pti=on");
        assert_eq!(with("mitigations=auto").chosen(), "mitigations=auto");
        assert!(!with("mitigations=auto").command_line(false, None).contains("nopti"));
    }
}
