//! What a result folder does to the disk. Every write goes through [`Disk`], so that a test can
//! see their order and play a power failure after any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Changes of files.
pub trait Disk: Sync {
    /// Makes a folder and those above it; one that is there is left alone.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file to write at its end; `fresh`: as an empty one.
    fn open(&self, path: &Path, fresh: bool) -> io::Result<Box<dyn Output>>;
    /// Gives a file another name, whose file is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What was made, renamed and removed in a folder outlasts a power failure.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Output: Send {
    /// Writes all of the bytes, at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// What was written outlasts a power failure.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk that there is.
pub struct Real;

impl Disk for Real {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path, fresh: bool) -> io::Result<Box<dyn Output>> {
        let file = match fresh {
            true => File::create(path)?,
            false => OpenOptions::new().create(true).append(true).open(path)?,
        };
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Output for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
