//! Machines that have come up, kept in files, so that a kernel boots once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::pc::{Error, FORMAT, Header, Saved};

/// What the name of a saved machine ends in.
const SUFFIX: &str = "nmi-machine";

/// Where the lab keeps what it can make again: `~/.cache/nmi-lab`.
fn root() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))
        .unwrap_or_default()
        .join("nmi-lab")
}

/// Where scripts/linux puts kernels.
pub fn kernel_cache() -> PathBuf {
    root().join("linux")
}

/// Where machines are kept.
pub fn machine_cache() -> PathBuf {
    root().join("machines")
}

/// The file of the machine with this key.
pub fn cached(key: &str) -> PathBuf {
    machine_cache().join(format!("{key}-{FORMAT}.{SUFFIX}"))
}

/// A file with a machine.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it says of the machine, or what is wrong with it.
    pub header: Result<Header, Error>,
}

/// All machines that are kept, by their names.
pub fn list() -> Result<Vec<Entry>, Error> {
    let mut out = Vec::new();
    for path in files()? {
        let bytes = read(&path)?;
        out.push(Entry { bytes: bytes.len() as u64, header: Saved::header(&bytes), path });
    }
    Ok(out)
}

/// Removes all machines that are kept; how many there were.
pub fn clear() -> Result<usize, Error> {
    let all = files()?;
    for path in &all {
        std::fs::remove_file(path).map_err(|why| Error::File { path: path.clone(), why })?;
    }
    Ok(all.len())
}

fn files() -> Result<Vec<PathBuf>, Error> {
    let dir = machine_cache();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|why| Error::File { path: dir, why })?,
    };
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == SUFFIX));
    all.sort();
    Ok(all)
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    /// A machine's RAM is smaller, even if it does not pack at all.
    const MOST: u64 = 4 << 30;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    let fits = read.and_then(|_| match bytes.len() as u64 > MOST {
        true => Err(std::io::Error::other(format!("it has more than {} GiB", MOST >> 30))),
        false => Ok(()),
    });
    fits.map(|()| bytes).map_err(|why| Error::File { path: path.to_owned(), why })
}

/// Writes a machine's bytes over those of a file; one that was cut off is refused when it is read.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|why| Error::File { path: path.to_owned(), why })
}

/// Writes a machine's bytes to a file, at one stroke: whoever reads it sees all or nothing.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |why| Error::File { path: path.to_owned(), why };
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|why| {
        let _ = std::fs::remove_file(&part); // it may not be there at all
        fail(why)
    })
}
