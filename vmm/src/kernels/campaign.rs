//! Campaigns over kernels: which kernel, which sites, which changes to its code,
//! and what is expected.

use std::path::PathBuf;

use serde::Deserialize;

use super::cache::kernel_cache;
use super::fault_by::FaultBy;

/// Which NMI goes from boundary to boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// NMI #2, on the path of #1.
    Second,
    /// NMI #3, on the path of an NMI #2 nested in #1's handler.
    Third,
    /// A fault, on the path of #1.
    Fault,
}

impl Part {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Part::Second => "second",
            Part::Third => "third",
            Part::Fault => "fault",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Second => "NMI #2 at each boundary of its path",
            Part::Third => "NMI #3 at each boundary of nested #2's path",
            Part::Fault => "a fault at each boundary of its path",
        })
    }
}

/// A campaign file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// What to call it.
    pub name: String,
    /// The kernel's file; `vmm kernel` and `vmm xen` name theirs themselves.
    kernel: Option<String>,
    /// MiB of RAM.
    #[serde(default = "ram")]
    pub ram: u64,
    /// Words for the command line.
    #[serde(default)]
    pub cmdline: String,
    /// Seconds that a boot may take.
    #[serde(default = "boot_limit", rename = "boot-limit")]
    pub boot_limit: u64,
    /// What is run, all from one boot.
    #[serde(rename = "run")]
    pub runs: Vec<CampaignRun>,
}

/// Changes to the kernel that came up, and the sweeps from there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignRun {
    /// What it is for.
    pub about: String,
    /// Where the first NMI arrives.
    #[serde(default = "sites")]
    pub sites: Vec<String>,
    /// Which NMI of each sweep goes from boundary to boundary.
    #[serde(default = "parts")]
    pub parts: Vec<Part>,
    /// Where #1's handler faults in all of its cases, or `auto`.
    #[serde(default, rename = "fault-in-handler")]
    pub fault: Option<String>,
    /// What a fault of the handler is.
    #[serde(default, rename = "fault-by")]
    pub fault_by: FaultBy,
    /// Changes to the kernel's code.
    #[serde(default)]
    pub mutate: Vec<String>,
    /// Places where defects must show, as `label` or `label+0x10`; empty for none
    /// anywhere.
    #[serde(default, rename = "defects-at")]
    pub defects_at: Vec<String>,
}

fn ram() -> u64 {
    256
}

fn boot_limit() -> u64 {
    1800
}

fn sites() -> Vec<String> {
    vec![String::new()]
}

fn parts() -> Vec<Part> {
    vec![Part::Second, Part::Third]
}

impl Campaign {
    /// Reads a campaign file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let campaign: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        match campaign.runs.iter().find(|r| r.sites.is_empty()) {
            Some(run) => Err(format!("the run {:?} names no site", run.about)),
            None => Ok(campaign),
        }
    }

    /// The kernel's path, where the file names it; `$CACHE` stands for where scripts/linux puts kernels.
    pub fn kernel(&self) -> Option<PathBuf> {
        let kernel = self.kernel.as_ref()?;
        Some(match kernel.strip_prefix("$CACHE/") {
            Some(rest) => kernel_cache().join(rest),
            None => PathBuf::from(kernel),
        })
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// It is what the campaign says.
    pub as_expected: bool,
    /// Why, or why not.
    pub why: String,
}

/// Whether defects showed at the places where they must, and nowhere where none may.
pub fn judge(defects_at: &[String], defects: &[String]) -> Judged {
    let at =
        |want: &str| defects.iter().any(|d| d == want || d.split_once('+').is_some_and(|(label, _)| label == want));
    let missing: Vec<&str> = defects_at.iter().map(String::as_str).filter(|want| !at(want)).collect();
    let (as_expected, why) = match (defects_at.is_empty(), defects.len()) {
        (true, 0) => (true, "no defect".into()),
        (true, n) => (false, format!("{n} defects, the first at {}", defects[0])),
        (false, n) if missing.is_empty() => (true, format!("{n} defects, at {} among them", defects_at.join(", "))),
        (false, n) => (false, format!("{n} defects, but none at {}", missing.join(", "))),
    };
    Judged { as_expected, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_must_show_its_defect() {
        let text = "name = 'x'\nkernel = '$CACHE/vmlinux'\n[[run]]\nabout = 'a'\ndefects-at = ['nmi_restore']\n";
        let campaign = Campaign::parse(text).unwrap();
        assert!(campaign.kernel().unwrap().ends_with("nmi-lab/linux/vmlinux"));
        assert!(!judge(&campaign.runs[0].defects_at, &[]).as_expected);
        assert!(judge(&campaign.runs[0].defects_at, &["nmi_restore+0x25".into()]).as_expected);
        assert!(Campaign::parse("name = 'x'\nkernel = 'k'\n[[run]]\nabout = 'a'\nsites = []\n").is_err());
    }
}
