//! Result folders: what a campaign has found so far, safe against being killed at any
//! moment.
//!
//! `campaign.json` says what the results are about, `units.jsonl` has one line for each
//! unit that was run to its end. A line is written at once; one that was cut off is
//! dropped at the next start. When nothing is left to run, the lines are sorted: the
//! bytes then depend on the campaign, the image and the host only.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::results::{Header, Results};
use super::tally::Tally;

const HEADER: &str = "campaign.json";
const UNITS: &str = "units.jsonl";
const LOCK: &str = "lock";

/// A line of `units.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    unit: u64,
    #[serde(flatten)]
    tally: Tally,
}

/// An open result folder.
pub struct Store {
    dir: PathBuf,
    journal: File,
    /// Held while the folder is in use.
    _lock: File,
}

impl Store {
    /// Opens a folder, or makes it. Returns the units that are there already. Results
    /// of something else are refused, or thrown away where `fresh`.
    pub fn open(dir: &Path, header: &Header, fresh: bool) -> Result<(Self, BTreeMap<u64, Tally>), Error> {
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
        let mut done = BTreeMap::new();
        if dir.join(HEADER).exists() && !fresh {
            let old = read_header(dir)?;
            let other_shard =
                || (old.shard != header.shard).then(|| format!("shard {}, and not of {}", old.shard, header.shard));
            if let Some(what) = old.difference(header).or_else(other_shard) {
                return Err(refuse(format!(
                    "these are results of {what}; choose another folder, or throw them away with --fresh"
                )));
            }
            let (units, end) = read_units(dir, header)?;
            cut(&dir.join(UNITS), end)?;
            done = units;
        } else if fresh {
            cut(&dir.join(UNITS), 0)?;
        }
        write_header(dir, header)?;
        let path = dir.join(UNITS);
        let journal = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::writing(&path))?;
        Ok((Self { dir: dir.to_owned(), journal, _lock: lock }, done))
    }

    /// Keeps a unit that was run to its end.
    pub fn add(&mut self, unit: u64, tally: &Tally) -> Result<(), Error> {
        let mut line = line(unit, tally);
        line.push('\n');
        // One write: other than the last line, no line is ever cut off.
        self.journal.write_all(line.as_bytes()).map_err(Error::writing(&self.dir.join(UNITS)))
    }

    /// Everything was run: sorts the lines.
    pub fn finish(self, units: &BTreeMap<u64, Tally>) -> Result<(), Error> {
        write_units(&self.dir, units)
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
    // As `campaign --out` leaves it.
    let lock = dir.join(LOCK);
    File::create(&lock).map(drop).map_err(Error::writing(&lock))
}

/// Puts result folders together.
pub fn merge(dirs: &[PathBuf]) -> Result<Results, Error> {
    let mut whole: Option<(&Path, Results)> = None;
    for dir in dirs {
        let header = read_header(dir)?;
        let (units, _) = read_units(dir, &header)?;
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
    whole.map(|(_, results)| results).ok_or_else(no_dirs)
}

fn line(unit: u64, tally: &Tally) -> String {
    let line = Line { unit, tally: tally.clone() };
    serde_json::to_string(&line).unwrap_or_else(|e| unreachable!("a tally has string keys only: {e}"))
}

fn is_empty(dir: &Path) -> Result<bool, Error> {
    let mut names = fs::read_dir(dir).map_err(Error::reading(dir))?.flatten().map(|e| e.file_name());
    Ok(names.all(|n| n == LOCK))
}

fn read_header(dir: &Path) -> Result<Header, Error> {
    let path = dir.join(HEADER);
    let text = fs::read_to_string(&path).map_err(Error::reading(&path))?;
    serde_json::from_str(&text).map_err(|e| Error::Results {
        dir: dir.to_owned(),
        why: format!("{HEADER} is not that of a result folder: {e}"),
    })
}

fn write_header(dir: &Path, header: &Header) -> Result<(), Error> {
    let mut text =
        serde_json::to_string_pretty(header).unwrap_or_else(|e| unreachable!("a header has string keys only: {e}"));
    text.push('\n');
    replace(&dir.join(HEADER), text.as_bytes())
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

/// Writes a file such that at any moment either the old or the new one is there.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).map_err(Error::writing(&new))?;
    fs::rename(&new, path).map_err(Error::writing(path))
}

/// The units of a folder, and where the last whole line ends.
fn read_units(dir: &Path, header: &Header) -> Result<(BTreeMap<u64, Tally>, u64), Error> {
    let path = dir.join(UNITS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((BTreeMap::new(), 0)),
        Err(e) => return Err(Error::reading(&path)(e)),
    };
    let mut units = BTreeMap::new();
    let mut end = 0;
    for (number, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break; // cut off: its unit is run again
        }
        let refuse = |why: String| Error::Results {
            dir: dir.to_owned(),
            why: format!("{UNITS}:{}: {why}; throw the results away with --fresh", number + 1),
        };
        let line_: Line = serde_json::from_slice(line).map_err(|e| refuse(e.to_string()))?;
        if line_.unit >= header.units() || !header.shard.has(line_.unit) {
            return Err(refuse(format!("unit {} is none of this campaign and shard", line_.unit)));
        }
        units.insert(line_.unit, line_.tally);
        end += line.len() as u64;
    }
    Ok((units, end))
}

/// Cuts a file, where it is longer.
fn cut(path: &Path, len: u64) -> Result<(), Error> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.set_len(len).map_err(Error::writing(path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::writing(path)(e)),
    }
}
