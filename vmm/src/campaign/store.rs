//! Result folders: what a campaign has found so far, safe against being killed at any
//! moment, against a power failure, and against bits that change on the disk.
//!
//! `campaign.json` says what the results are about, `units.jsonl` has one line for each
//! unit that was run to its end. A line is written at once, and carries a checksum: one
//! that was cut off, or is damaged, is named and its unit is run again. When nothing is left
//! to run, the lines are sorted: the bytes then depend on the campaign, the image and the host
//! only, and `finished.json` has their checksum. Files are on the disk before they take the
//! place of older ones.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::results::{FORMAT, Header, Results};
use super::tally::Tally;

const HEADER: &str = "campaign.json";
const UNITS: &str = "units.jsonl";
const FINISHED: &str = "finished.json";
const LOCK: &str = "lock";
/// What a line begins with: the checksum of the rest.
const SUM: &str = "{\"sum\":\"";

/// A line of `units.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    unit: u64,
    #[serde(flatten)]
    tally: Tally,
}

/// What `finished.json` says: the checksum of the finished `units.jsonl`.
#[derive(Serialize, Deserialize)]
struct Finished {
    units: String,
}

/// What was read of a folder.
struct Read {
    units: BTreeMap<u64, Tally>,
    /// What is wrong with it, in words; empty for a folder as it was written.
    damaged: Vec<String>,
}

/// An open result folder, what is there, and what of it is damaged.
pub struct Opened {
    /// The result folder, opened to write to.
    pub store: Store,
    /// Units that need not be run again.
    pub units: BTreeMap<u64, Tally>,
    /// What is damaged, in words; its units are not among `units`.
    pub damaged: Vec<String>,
}

/// An open result folder.
pub struct Store {
    dir: PathBuf,
    journal: File,
    /// Held while the folder is in use.
    _lock: File,
}

impl Store {
    /// Opens a folder, or makes it. Results of something else are refused, or thrown away
    /// where `fresh`.
    pub fn open(dir: &Path, header: &Header, fresh: bool) -> Result<Opened, Error> {
        let refuse = |why: String| Error::Results { dir: dir.to_owned(), why };
        let foreign = dir.is_dir() && !dir.join(HEADER).exists() && !is_empty(dir)?;
        if foreign {
            return Err(refuse("the folder holds other files, and no results; choose an empty or a new one".into()));
        }
        fs::create_dir_all(dir).map_err(Error::writing(dir))?;
        let lock_path = dir.join(LOCK);
        let lock = File::create(&lock_path).map_err(Error::writing(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(refuse("another vmm is at work in this folder".into()));
        }
        let mut read = Read { units: BTreeMap::new(), damaged: Vec::new() };
        if dir.join(HEADER).exists() && !fresh {
            let old = read_header(dir)?;
            let other_shard =
                || (old.shard != header.shard).then(|| format!("shard {}, and not of {}", old.shard, header.shard));
            if let Some(what) = old.difference(header).or_else(other_shard) {
                return Err(refuse(format!(
                    "these are results of {what}; choose another folder, or throw them away with --fresh"
                )));
            }
            check_sum(dir, &old)?;
            read = read_units(dir, header)?;
            remove(&dir.join(FINISHED))?;
            if !read.damaged.is_empty() {
                write_units(dir, &read.units)?;
            }
        } else if fresh {
            remove(&dir.join(FINISHED))?;
            remove(&dir.join(UNITS))?;
        }
        write_header(dir, header)?;
        let path = dir.join(UNITS);
        let journal = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::writing(&path))?;
        let store = Self { dir: dir.to_owned(), journal, _lock: lock };
        Ok(Opened { store, units: read.units, damaged: read.damaged })
    }

    /// Keeps a unit that was run to its end.
    pub fn add(&mut self, unit: u64, tally: &Tally) -> Result<(), Error> {
        let mut line = line(unit, tally);
        line.push('\n');
        // One write: a process that is killed leaves at most the last line cut off.
        self.journal.write_all(line.as_bytes()).map_err(Error::writing(&self.dir.join(UNITS)))
    }

    /// Everything was run: sorts the lines.
    pub fn finish(self, units: &BTreeMap<u64, Tally>) -> Result<(), Error> {
        write_units(&self.dir, units)?;
        write_finished(&self.dir)
    }
}

/// Writes a whole result folder.
pub fn write(dir: &Path, results: &Results) -> Result<(), Error> {
    if dir.is_dir() && !is_empty(dir)? {
        let why = "the folder is not empty; choose an empty or a new one".to_owned();
        return Err(Error::Results { dir: dir.to_owned(), why });
    }
    fs::create_dir_all(dir).map_err(Error::writing(dir))?;
    write_header(dir, &results.header)?;
    write_units(dir, &results.units)?;
    if results.complete() {
        write_finished(dir)?;
    }
    // As `campaign --out` leaves it.
    let lock = dir.join(LOCK);
    File::create(&lock).map(drop).map_err(Error::writing(&lock))
}

/// What several folders hold together.
pub struct Merged {
    /// What was there, or was run since.
    pub results: Results,
    /// What is damaged in the folders, in words, and so left out.
    pub damaged: Vec<String>,
}

/// Puts result folders together. Nothing is written to them.
pub fn merge(dirs: &[PathBuf]) -> Result<Merged, Error> {
    let mut whole: Option<(&Path, Results)> = None;
    let mut damaged = Vec::new();
    for dir in dirs {
        let header = read_header(dir)?;
        check_sum(dir, &header)?;
        let read = read_units(dir, &header)?;
        damaged.extend(read.damaged);
        let units = read.units;
        let refuse = |why: String| Error::Results { dir: dir.clone(), why };
        let Some((first, whole)) = &mut whole else {
            let mut header = header;
            header.shard = super::Shard::WHOLE;
            whole = Some((dir, Results { header, units, partial: BTreeMap::new() }));
            continue;
        };
        if let Some(what) = header.difference(&whole.header) {
            return Err(refuse(format!("these are results of {what} as in {}", first.display())));
        }
        if header.cells != whole.header.cells {
            return Err(refuse(format!("other verdicts were expected than in {}", first.display())));
        }
        for (unit, tally) in units {
            if whole.units.get(&unit).is_some_and(|known| *known != tally) {
                return Err(refuse(format!("unit {unit} has another result in another folder")));
            }
            whole.units.insert(unit, tally);
        }
    }
    let no_dirs = || Error::Results { dir: PathBuf::new(), why: "no folder was named".into() };
    whole.map(|(_, results)| Merged { results, damaged }).ok_or_else(no_dirs)
}

fn sum(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// A line without its end: an object whose first key is the checksum of the others.
fn line(unit: u64, tally: &Tally) -> String {
    let line = Line { unit, tally: tally.clone() };
    let text = serde_json::to_string(&line).unwrap_or_else(|e| unreachable!("a tally has string keys only: {e}"));
    format!("{SUM}{}\",{}", sum(text.as_bytes()), &text[1..])
}

/// Reads a line, which is as it was written or damaged, and how.
fn read_line(line: &[u8]) -> Result<Line, String> {
    const DIGITS: usize = 16;
    let line = line.strip_suffix(b"\n").ok_or("it is cut off")?;
    let rest = line.strip_prefix(SUM.as_bytes()).filter(|rest| rest.len() > DIGITS + 2);
    let (digits, rest) = rest.ok_or("it has no checksum")?.split_at(DIGITS);
    let rest = rest.strip_prefix(b"\",").ok_or("it has no checksum")?;
    let text = [b"{", rest].concat();
    if sum(&text).as_bytes() != digits {
        return Err("its checksum is another".into());
    }
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}

fn is_empty(dir: &Path) -> Result<bool, Error> {
    let mut names = fs::read_dir(dir).map_err(Error::reading(dir))?.flatten().map(|e| e.file_name());
    Ok(names.all(|n| n == LOCK))
}

/// What every version of the header has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

fn read_header(dir: &Path) -> Result<Header, Error> {
    let path = dir.join(HEADER);
    let text = fs::read_to_string(&path).map_err(Error::reading(&path))?;
    let bad = |why: String| Error::Results { dir: dir.to_owned(), why };
    let not_one = |e: serde_json::Error| bad(format!("{HEADER} is not that of a result folder: {e}"));
    let Version { format } = serde_json::from_str(&text).map_err(not_one)?;
    if format != FORMAT {
        return Err(bad(format!(
            "these results are in format {format}, and this program reads format {FORMAT}: use the program that wrote \
             them, or run the campaign again with --fresh"
        )));
    }
    serde_json::from_str(&text).map_err(not_one)
}

/// Refuses a header that is not as it was written.
fn check_sum(dir: &Path, header: &Header) -> Result<(), Error> {
    if header.checksum == header.sum() {
        return Ok(());
    }
    let why = format!("{HEADER} is damaged: its checksum is another; run the campaign again with --fresh");
    Err(Error::Results { dir: dir.to_owned(), why })
}

fn write_header(dir: &Path, header: &Header) -> Result<(), Error> {
    let header = header.summed();
    let mut text =
        serde_json::to_string_pretty(&header).unwrap_or_else(|e| unreachable!("a header has string keys only: {e}"));
    text.push('\n');
    replace(&dir.join(HEADER), text.as_bytes())
}

/// Notes the checksum of a `units.jsonl` that is whole.
fn write_finished(dir: &Path) -> Result<(), Error> {
    let path = dir.join(UNITS);
    let units = sum(&fs::read(&path).map_err(Error::reading(&path))?);
    let path = dir.join(FINISHED);
    let text = serde_json::to_string(&Finished { units }).map_err(|e| Error::writing(&path)(e.into()))?;
    replace(&path, format!("{text}\n").as_bytes())
}

fn write_units(dir: &Path, units: &BTreeMap<u64, Tally>) -> Result<(), Error> {
    let mut text = BufWriter::new(Vec::new());
    let path = dir.join(UNITS);
    for (unit, tally) in units {
        writeln!(text, "{}", line(*unit, tally)).map_err(Error::writing(&path))?;
    }
    let bytes = text.into_inner().map_err(|e| Error::writing(&path)(e.into_error()))?;
    replace(&path, &bytes)
}

/// Writes a file such that at any moment, a power failure included, either the old or the
/// new one is there, whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::writing(&new))?;
    fs::rename(&new, path).map_err(Error::writing(path))?;
    let dir = path.parent().unwrap_or(path);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::writing(dir))
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
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
fn read_units(dir: &Path, header: &Header) -> Result<Read, Error> {
    let mut read = Read { units: BTreeMap::new(), damaged: Vec::new() };
    let path = dir.join(UNITS);
    let text = read_file(&path)?.unwrap_or_default();
    for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let place = format!("{}:{}", path.display(), number + 1);
        let line = match read_line(line) {
            Ok(line) => line,
            Err(why) => {
                read.damaged.push(format!("{place}: this record is damaged ({why}); its unit is to be run again"));
                continue;
            }
        };
        if line.unit >= header.units() || !header.shard.has(line.unit) {
            let why = format!(
                "{UNITS}:{}: unit {} is none of this campaign and shard; throw the results away with --fresh",
                number + 1,
                line.unit
            );
            return Err(Error::Results { dir: dir.to_owned(), why });
        }
        read.units.insert(line.unit, line.tally);
    }
    let place = dir.join(FINISHED);
    if let Some(bytes) = read_file(&place)? {
        let finished = serde_json::from_slice::<Finished>(&bytes).map(|f| f.units == sum(&text));
        match finished {
            Ok(true) => {}
            Ok(false) if !read.damaged.is_empty() => {}
            Ok(false) => read.damaged.push(format!("{}: it is not the file that was finished", path.display())),
            Err(e) => read.damaged.push(format!("{}: this file is damaged ({e})", place.display())),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_any_changed_bit_of_it_is_noticed() {
        let written = line(7, &Tally { cases: 3, rechecked: 1, ..Tally::default() }) + "\n";
        assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok_and(|v| v["unit"] == 7));
        assert!(read_line(written.as_bytes()).is_ok_and(|l| l.unit == 7 && l.tally.cases == 3));
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut bytes = written.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(read_line(&bytes).is_err(), "byte {at}, bit {bit}");
            }
            assert!(read_line(&written.as_bytes()[..at]).is_err(), "cut off at {at}");
        }
    }
}
