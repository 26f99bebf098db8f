//! Files, by Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AddRuleError, AddRulesError, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
};

use super::error::Error;

/// What a command does with files. What is not there is left out: it cannot be opened anyway.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Files, or folders with all in them, that are read.
    pub read: Vec<PathBuf>,
    /// Files that are written. They must be there, as no new ones can be made.
    pub write: Vec<PathBuf>,
    /// Folders in which files are read, made, written, renamed and removed.
    pub folders: Vec<PathBuf>,
    /// Folders in which a socket is made, and removed again.
    pub sockets: Vec<PathBuf>,
}

/// Rights that Landlock has had from the beginning, and that must be had.
const NEEDED: ABI = ABI::V1;
/// The newest rights that are given up where the kernel knows them.
const WANTED: ABI = ABI::V6;

/// Rules that allow nothing yet.
pub(super) fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .create()
}

pub(super) fn restrict(files: &Files) -> Result<(), Error> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    let folder = read | write | AccessFs::MakeReg | AccessFs::RemoveFile;
    let socket = AccessFs::MakeSock | AccessFs::RemoveFile;
    let all = [(&files.read, read), (&files.write, write), (&files.folders, folder), (&files.sockets, socket)];
    let mut rules = ruleset()?;
    for (paths, access) in all {
        for path in paths {
            rules = allow(rules, path, access)?;
        }
    }
    rules.restrict_self()?;
    Ok(())
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, Error> {
    let there = match PathFd::new(path) {
        Ok(there) => there,
        Err(PathFdError::OpenCall { source, .. }) if is_scarcity(&source) => return Err(Error::Rules(source)),
        Err(_) => return Ok(rules),
    };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
    // An error takes the rules with it.
    let spare = rules.try_clone().map_err(Error::Rules)?;
    match rules.add_rule(PathBeneath::new(there, access)) {
        // A pipe, as a shell passes it in /dev/fd, belongs to no file system that Landlock
        // restricts.
        Err(RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })))
            if source.raw_os_error() == Some(libc::EBADFD) =>
        {
            Ok(spare)
        }
        other => Ok(other?),
    }
}

/// Whether the host had nothing left to open a file with: then it may be there all the same.
fn is_scarcity(e: &std::io::Error) -> bool {
    e.raw_os_error().is_some_and(|e| [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&e))
}
