//! Files that somebody else wrote: read up to a limit, so that none can fill the memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::failure::Failure;

/// Most bytes of a file with results of another run.
const MOST: u64 = 256 << 20;

/// Most bytes of an image or an object.
pub const MOST_IMAGE: u64 = 256 << 20;
/// Most bytes of a kernel, or what belongs to one.
pub const MOST_KERNEL: u64 = 1 << 30;

/// The bytes of a file, which has so many at most.
pub fn bytes(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::other(format!("it has more than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

/// The text of a file.
pub fn text(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::Input { name: path.display().to_string(), why };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
    read.map_err(|e| failed(e.to_string()))?;
    match text.len() as u64 > MOST {
        true => Err(failed(format!("it has more than {} MiB", MOST >> 20))),
        false => Ok(text),
    }
}
