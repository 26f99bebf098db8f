//! A host's report, kept for as long as it cannot have changed: this boot, this KVM
//! with these parameters, this program.

use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::host_id::HostId;

/// Where the report of the host `id` is kept, if there is a place for it:
/// `$XDG_CACHE_HOME/nmi-lab/probe`, or `~/.cache/nmi-lab/probe`.
pub fn place(id: &HostId) -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))?;
    Some(cache.join("nmi-lab/probe").join(format!("{:016x}.json", key(id)?)))
}

/// The report kept there. What cannot be read is not there.
pub fn read(place: &Path) -> Option<Report> {
    let report: Report = serde_json::from_str(&fs::read_to_string(place).ok()?).ok()?;
    (report.schema == super::report::SCHEMA).then_some(report)
}

/// Keeps a report, whole or not at all. What nobody wrote for a week goes.
pub fn write(place: &Path, report: &Report) -> std::io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    for old in fs::read_dir(directory)?.flatten().filter(is_old) {
        let _ = fs::remove_file(old.path());
    }
    let part = place.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, serde_json::to_vec(report)?)?;
    fs::rename(&part, place)
}

/// Whether a file was written more than a week ago.
fn is_old(entry: &fs::DirEntry) -> bool {
    const WEEK: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);
    let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age > WEEK)
}

/// A hash over all that the answers depend on; `None` where this boot has no name.
fn key(id: &HostId) -> Option<u64> {
    let mut h = xxhash_rust::xxh3::Xxh3Default::new();
    fs::read("/proc/sys/kernel/random/boot_id").ok()?.hash(&mut h);
    id.fingerprint.hash(&mut h);
    std::env::var_os("VMM_KVM").hash(&mut h);
    parameters().hash(&mut h);
    let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
    (program.len(), program.modified().ok()?).hash(&mut h);
    Some(h.finish())
}

/// The parameters of the KVM modules, which may be reloaded without a boot.
fn parameters() -> Vec<(PathBuf, String)> {
    let modules = fs::read_dir("/sys/module").into_iter().flatten().flatten();
    let ours = modules.filter(|m| m.file_name().to_string_lossy().starts_with("kvm"));
    let files = ours.filter_map(|m| fs::read_dir(m.path().join("parameters")).ok()).flatten().flatten();
    let mut all: Vec<_> = files.filter_map(|f| Some((f.path(), fs::read_to_string(f.path()).ok()?))).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{report, row};
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_nonsense_is_not() {
        let dir = std::env::temp_dir().join(format!("nmi-lab-kept-{}", std::process::id()));
        let place = dir.join("deep/x.json");
        assert_eq!(read(&place), None);
        let kept = report("kvm_amd", vec![row("a", &["exact"], Some("exact"))]);
        write(&place, &kept).unwrap();
        assert_eq!(read(&place), Some(kept.clone()));
        fs::write(&place, "{").unwrap();
        assert_eq!(read(&place), None);
        fs::write(&place, serde_json::to_string(&Report { schema: 0, ..kept }).unwrap()).unwrap();
        assert_eq!(read(&place), None, "of another form");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_key_is_the_same_while_nothing_changes() {
        let id = HostId::here();
        assert_eq!(key(&id), key(&id));
    }
}
