//! What a folder holds: what a campaign has found so far, safe against being killed at any
//! moment, against a power failure, and against bits that change on the disk.
//!
//! `campaign.json` says what the results are about, `units.jsonl` has one line for each
//! unit that was run to its end. A line is written at once, and carries a checksum: one
//! that was cut off, or is damaged, is named and its unit is run again. When nothing is left
//! to run, the lines are sorted: the bytes then depend on the campaign, the image and the host
//! only, and `finished.json` has their checksum. Files are on the disk before they take the
//! place of older ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::disk::{Disk, Output};
use super::error::Error;
use super::records;
use super::{Record, Subject};

const HEADER: &str = "campaign.json";
const UNITS: &str = "units.jsonl";
const FINISHED: &str = "finished.json";
const LOCK: &str = "lock";
/// What a file is called until it is whole and takes the place of the older one.
const NEW: &str = "new";

/// What was read of a folder.
struct Read<R> {
    units: BTreeMap<u64, R>,
    /// What is wrong with it, in words; empty for a folder as it was written.
    damaged: Vec<String>,
}

/// An open result folder, what is there, and what of it is damaged.
pub struct Opened<'a, R> {
    /// The result folder, opened to write to.
    pub store: Store<'a>,
    /// Units that need not be run again.
    pub units: BTreeMap<u64, R>,
    /// What is damaged, in words; its units are not among `units`.
    pub damaged: Vec<String>,
}

/// An open result folder.
pub struct Store<'a> {
    dir: PathBuf,
    disk: &'a dyn Disk,
    journal: Box<dyn Output>,
    /// Held while the folder is in use.
    _lock: File,
}

impl<'a> Store<'a> {
    /// Opens a folder, or makes it. Results of something else are refused, or thrown away
    /// where `fresh`.
    pub fn open<H: Subject, R: Record>(
        dir: &Path,
        header: &H,
        fresh: bool,
        disk: &'a dyn Disk,
    ) -> Result<Opened<'a, R>, Error> {
        let refuse = |why: String| Error::Results { dir: dir.to_owned(), why };
        let foreign = dir.is_dir() && !dir.join(HEADER).exists() && !is_empty(dir)?;
        if foreign {
            return Err(refuse("the folder holds other files, and no results; choose an empty or a new one".into()));
        }
        disk.make_dir(dir).map_err(Error::writing(dir))?;
        let lock_path = dir.join(LOCK);
        let lock = File::create(&lock_path).map_err(Error::writing(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(refuse("another vmm is at work in this folder".into()));
        }
        let mut read = Read { units: BTreeMap::new(), damaged: Vec::new() };
        if dir.join(HEADER).exists() && !fresh {
            let old: H = read_header(dir)?;
            let (was, is) = (old.shard(), header.shard());
            let other_shard = || (was != is).then(|| format!("shard {was}, and not of {is}"));
            if let Some(what) = old.difference(header).or_else(other_shard) {
                return Err(refuse(format!(
                    "these are results of {what}; choose another folder, or throw them away with --fresh"
                )));
            }
            read = read_units(dir, header)?;
            remove(disk, &dir.join(FINISHED))?;
            if !read.damaged.is_empty() {
                write_units(disk, dir, &read.units)?;
            }
        } else {
            // Without a header, units are those of nothing that is known.
            remove(disk, &dir.join(FINISHED))?;
            remove(disk, &dir.join(UNITS))?;
            // A power failure never leaves them beside the header that comes.
            disk.sync_dir(dir).map_err(Error::writing(dir))?;
        }
        write_header(disk, dir, header)?;
        let path = dir.join(UNITS);
        let journal = disk.open(&path, false).map_err(Error::writing(&path))?;
        let store = Self { dir: dir.to_owned(), disk, journal, _lock: lock };
        Ok(Opened { store, units: read.units, damaged: read.damaged })
    }

    /// Keeps a unit that was run to its end.
    pub fn add<R: Record>(&mut self, unit: u64, record: &R) -> Result<(), Error> {
        let path = self.dir.join(UNITS);
        let line = records::line(unit, record).map_err(|e| Error::writing(&path)(e.into()))? + "\n";
        // One write: a process that is killed leaves at most the last line cut off.
        self.journal.write(line.as_bytes()).map_err(Error::writing(&path))
    }

    /// Everything was run: sorts the lines.
    pub fn finish<R: Record>(self, units: &BTreeMap<u64, R>) -> Result<(), Error> {
        let bytes = write_units(self.disk, &self.dir, units)?;
        write_finished(self.disk, &self.dir, &bytes)
    }
}

/// Writes a whole result folder.
pub fn write<H: Subject, R: Record>(
    dir: &Path,
    header: &H,
    units: &BTreeMap<u64, R>,
    disk: &dyn Disk,
) -> Result<(), Error> {
    if dir.is_dir() && !is_empty(dir)? {
        let why = "the folder is not empty; choose an empty or a new one".to_owned();
        return Err(Error::Results { dir: dir.to_owned(), why });
    }
    disk.make_dir(dir).map_err(Error::writing(dir))?;
    write_header(disk, dir, header)?;
    let bytes = write_units(disk, dir, units)?;
    if units.len() as u64 == header.units() {
        write_finished(disk, dir, &bytes)?;
    }
    // As `--out` leaves it.
    let lock = dir.join(LOCK);
    File::create(&lock).map(drop).map_err(Error::writing(&lock))
}

/// What several folders hold together.
pub struct Merged<H, R> {
    /// What the results are about.
    pub header: H,
    /// The units that were run to their end.
    pub units: BTreeMap<u64, R>,
    /// What is damaged in the folders, in words, and so left out.
    pub damaged: Vec<String>,
}

/// What sort of results a folder holds: the [`Subject::KIND`] of its header.
pub fn kind(dir: &Path) -> Result<String, Error> {
    read_text(dir).and_then(|text| records::kind(&text).map_err(|why| bad_header(dir, &why)))
}

/// Puts result folders together. Nothing is written to them.
pub fn merge<H: Subject, R: Record>(dirs: &[PathBuf]) -> Result<Merged<H, R>, Error> {
    let mut whole: Option<(&Path, H, BTreeMap<u64, R>)> = None;
    let mut damaged = Vec::new();
    for dir in dirs {
        let mut header: H = read_header(dir)?;
        let read = read_units(dir, &header)?;
        damaged.extend(read.damaged);
        let refuse = |why: String| Error::Results { dir: dir.clone(), why };
        let Some((first, as_in, units)) = &mut whole else {
            *header.shard_mut() = super::Shard::WHOLE;
            whole = Some((dir, header, read.units));
            continue;
        };
        if let Some(what) = header.difference(as_in) {
            return Err(refuse(format!("these are results of {what} as in {}", first.display())));
        }
        if !header.expects_as(as_in) {
            return Err(refuse(format!("other verdicts were expected than in {}", first.display())));
        }
        for (unit, record) in read.units {
            if units.get(&unit).is_some_and(|known| *known != record) {
                return Err(refuse(format!("unit {unit} has another result in another folder")));
            }
            units.insert(unit, record);
        }
    }
    let no_dirs = || Error::Results { dir: PathBuf::new(), why: "no folder was named".into() };
    whole.map(|(_, header, units)| Merged { header, units, damaged }).ok_or_else(no_dirs)
}

/// Whether a folder has nothing in it but what a campaign that had just begun left.
fn is_empty(dir: &Path) -> Result<bool, Error> {
    let header = Path::new(HEADER).with_extension(NEW);
    let mut names = fs::read_dir(dir).map_err(Error::reading(dir))?.flatten().map(|e| e.file_name());
    Ok(names.all(|n| n == LOCK || n == header.as_os_str()))
}

fn read_text(dir: &Path) -> Result<String, Error> {
    let path = dir.join(HEADER);
    let bytes = fs::read(&path).map_err(Error::reading(&path))?;
    String::from_utf8(bytes).map_err(|e| bad_header(dir, &format!("is no text: {e}")))
}

fn read_header<H: Subject>(dir: &Path) -> Result<H, Error> {
    read_text(dir).and_then(|text| records::read_header(&text).map_err(|why| bad_header(dir, &why)))
}

fn bad_header(dir: &Path, why: &str) -> Error {
    Error::Results { dir: dir.to_owned(), why: format!("{HEADER} {why}") }
}

fn write_header<H: Subject>(disk: &dyn Disk, dir: &Path, header: &H) -> Result<(), Error> {
    let path = dir.join(HEADER);
    let text = records::header(header).map_err(|e| Error::writing(&path)(e.into()))?;
    replace(disk, &path, text.as_bytes())
}

/// Notes the checksum of a `units.jsonl` that is whole.
fn write_finished(disk: &dyn Disk, dir: &Path, units: &[u8]) -> Result<(), Error> {
    let path = dir.join(FINISHED);
    let text = records::finished(units).map_err(|e| Error::writing(&path)(e.into()))?;
    replace(disk, &path, text.as_bytes())
}

/// Writes the lines of these units, and returns them.
fn write_units<R: Record>(disk: &dyn Disk, dir: &Path, units: &BTreeMap<u64, R>) -> Result<Vec<u8>, Error> {
    let path = dir.join(UNITS);
    let mut text = String::new();
    for (unit, record) in units {
        text += &records::line(*unit, record).map_err(|e| Error::writing(&path)(e.into()))?;
        text.push('\n');
    }
    replace(disk, &path, text.as_bytes())?;
    Ok(text.into_bytes())
}

/// Writes a file such that at any moment, a power failure included, either the old or the
/// new one is there, whole.
fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension(NEW);
    let write = || {
        let mut file = disk.open(&new, true)?;
        file.write(bytes)?;
        file.sync()
    };
    write().map_err(Error::writing(&new))?;
    disk.rename(&new, path).map_err(Error::writing(path))?;
    let dir = path.parent().unwrap_or(path);
    disk.sync_dir(dir).map_err(Error::writing(dir))
}

/// Removes a file that may not be there.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    match disk.remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::writing(path)(e)),
        _ => Ok(()),
    }
}

/// Reads a file that may not be there.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::reading(path)(e)),
    }
}

/// The units of a folder, and what is damaged of them.
fn read_units<H: Subject, R: Record>(dir: &Path, header: &H) -> Result<Read<R>, Error> {
    let mut read = Read { units: BTreeMap::new(), damaged: Vec::new() };
    let path = dir.join(UNITS);
    let text = read_file(&path)?.unwrap_or_default();
    for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let place = format!("{}:{}", path.display(), number + 1);
        let line: records::Line<R> = match records::read_line(line) {
            Ok(line) => line,
            Err(why) => {
                read.damaged.push(format!("{place}: this record is damaged ({why}); its unit is to be run again"));
                continue;
            }
        };
        if line.unit >= header.units() || !header.shard().has(line.unit) {
            let why = format!(
                "{UNITS}:{}: unit {} is none of this campaign and shard; throw the results away with --fresh",
                number + 1,
                line.unit
            );
            return Err(Error::Results { dir: dir.to_owned(), why });
        }
        read.units.insert(line.unit, line.record);
    }
    let place = dir.join(FINISHED);
    if let Some(bytes) = read_file(&place)? {
        match records::is_finished(&bytes, &text) {
            Ok(true) => {}
            Ok(false) if !read.damaged.is_empty() => {}
            Ok(false) => read.damaged.push(format!("{}: it is not the file that was finished", path.display())),
            Err(e) => read.damaged.push(format!("{}: this file is damaged ({e})", place.display())),
        }
    }
    Ok(read)
}
