//! Which host a result was measured on.

use std::fs;

/// What every result carries: two results are comparable word by word only where
/// this is the same.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostId {
    /// Short hash over the other fields.
    pub fingerprint: String,
    /// The kernel's release.
    pub kernel: String,
    /// The KVM module in use, as `kvm_intel`.
    pub kvm: String,
    /// The CPU's model name.
    pub cpu: String,
}

impl HostId {
    /// The host this program runs on. What cannot be read is `unknown`.
    pub fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| unknown(), |s| s.trim().into());
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self::of(kernel, kvm_module().unwrap_or_else(unknown), cpu_model(&cpuinfo).unwrap_or_else(unknown))
    }

    /// The same host, its fingerprint made of what it answered as well.
    pub fn with_answers<'a>(mut self, answers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = format!("{}\n{}\n{}", self.kernel, self.kvm, self.cpu);
        for (question, answer) in answers {
            text.extend(["\n", question, "=", answer]);
        }
        self.fingerprint = fingerprint(&text);
        self
    }

    fn of(kernel: String, kvm: String, cpu: String) -> Self {
        Self { fingerprint: fingerprint(&format!("{kernel}\n{kvm}\n{cpu}")), kernel, kvm, cpu }
    }
}

fn fingerprint(text: &str) -> String {
    format!("{:08x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> 32)
}

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} on Linux {}, {})", self.fingerprint, self.kvm, self.kernel, self.cpu)
    }
}

/// The vendor module: `/sys/module/kvm_intel`, `kvm_amd`, …; loaded or built in.
fn kvm_module() -> Option<String> {
    let names = fs::read_dir("/sys/module").ok()?.flatten();
    let mut names: Vec<String> = names.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|n| n.starts_with("kvm_"));
    names.sort();
    (!names.is_empty()).then(|| names.join("+"))
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_depends_on_every_field() {
        let id = |k: &str, m: &str, c: &str| HostId::of(k.into(), m.into(), c.into()).fingerprint;
        assert_eq!(id("6.1", "kvm_amd", "cpu"), id("6.1", "kvm_amd", "cpu"));
        assert_ne!(id("6.1", "kvm_amd", "cpu"), id("6.2", "kvm_amd", "cpu"));
        assert_ne!(id("6.1", "kvm_amd", "cpu"), id("6.1", "kvm_intel", "cpu"));
        assert_ne!(id("6.1", "kvm_amd", "cpu"), id("6.1", "kvm_amd", "cpu2"));
    }

    #[test]
    fn the_fingerprint_depends_on_every_answer() {
        let id = |answers: &[(&str, &str)]| {
            HostId::of("6.1".into(), "kvm_amd".into(), "cpu".into()).with_answers(answers.iter().copied()).fingerprint
        };
        assert_eq!(id(&[]), HostId::of("6.1".into(), "kvm_amd".into(), "cpu".into()).fingerprint);
        assert_eq!(id(&[("a", "exact")]), id(&[("a", "exact")]));
        assert_ne!(id(&[("a", "exact")]), id(&[("a", "late")]));
        assert_ne!(id(&[("a", "exact")]), id(&[("b", "exact")]));
        assert_ne!(id(&[("a", "exact")]), id(&[]));
    }

    #[test]
    fn the_model_name_is_found_in_cpuinfo() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A CPU\n").as_deref(), Some("A CPU"));
        assert_eq!(cpu_model(""), None);
    }
}
