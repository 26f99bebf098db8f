//! The texts of a result folder's files: how they are written, and how they are read such that any
//! changed bit is noticed.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Record, Subject};

/// What a line of `units.jsonl` begins with: the checksum of the rest.
const SUM: &str = "{\"sum\":\"";
/// Digits of a checksum.
const DIGITS: usize = 16;
/// What a header's checksum is computed with in its own place.
const NO_SUM: &str = "0000000000000000";
/// What stands before a header's checksum, which is its last field.
const CHECKSUM: &str = "\"checksum\": \"";

/// A line of `units.jsonl`.
#[derive(Serialize, Deserialize)]
pub(super) struct Line<R> {
    pub(super) unit: u64,
    #[serde(flatten)]
    pub(super) record: R,
}

/// What `finished.json` says: the checksum of the finished `units.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finished {
    units: String,
}

fn sum(bytes: &[u8]) -> String {
    format!("{:0DIGITS$x}", xxh3_64(bytes))
}

/// A line without its end: an object whose first key is the checksum of the others.
pub(super) fn line<R: Record>(unit: u64, record: &R) -> serde_json::Result<String> {
    let text = serde_json::to_string(&Line { unit, record })?;
    Ok(format!("{SUM}{}\",{}", sum(text.as_bytes()), &text[1..]))
}

/// Reads a line, which is as it was written or damaged, and how.
pub(super) fn read_line<R: Record>(line: &[u8]) -> Result<Line<R>, String> {
    let line = line.strip_suffix(b"\n").ok_or("it is cut off")?;
    let rest = line.strip_prefix(SUM.as_bytes()).filter(|rest| rest.len() > DIGITS + 2);
    let (digits, rest) = rest.ok_or("it has no checksum")?.split_at(DIGITS);
    let rest = rest.strip_prefix(b"\",").ok_or("it has no checksum")?;
    let text = [b"{", rest].concat();
    if sum(&text).as_bytes() != digits {
        return Err("its checksum is another".into());
    }
    let line: Line<R> = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    match line.record.is_plausible() {
        true => Ok(line),
        false => Err("its counts do not add up".into()),
    }
}

/// The text of `campaign.json`, with the checksum of all of its bytes but the checksum's own.
pub(super) fn header<H: Subject>(header: &H) -> serde_json::Result<String> {
    let mut bare = header.clone();
    *bare.checksum_mut() = NO_SUM.into();
    let text = serde_json::to_string_pretty(&bare)? + "\n";
    let sum = sum(text.as_bytes());
    // The last field, whose value is the last such text.
    let at = text.rfind(CHECKSUM).map_or(text.len(), |at| at + CHECKSUM.len());
    Ok(format!("{}{sum}{}", &text[..at], &text[(at + DIGITS).min(text.len())..]))
}

/// What every version of the header has.
#[derive(Deserialize)]
struct Version {
    format: u32,
    /// What sort of results it is about. Those of the lab's own guests do not say it.
    #[serde(default = "guest")]
    kind: String,
}

fn guest() -> String {
    "guest".into()
}

/// What sort of results a header is about.
pub(super) fn kind(text: &str) -> Result<String, String> {
    version(text).map(|v| v.kind)
}

fn version(text: &str) -> Result<Version, String> {
    serde_json::from_str(text).map_err(not_one)
}

fn not_one(e: serde_json::Error) -> String {
    format!("is not that of a result folder: {e}")
}

/// Reads a header. An error says what is wrong with it.
pub(super) fn read_header<H: Subject>(text: &str) -> Result<H, String> {
    let Version { format, kind } = version(text)?;
    if kind != H::KIND {
        return Err(format!("is of a {kind}, and not of a {}", H::KIND));
    }
    if format != H::FORMAT {
        let reads = H::FORMAT;
        return Err(format!(
            "is of format {format}, and this program reads format {reads}: use the program that wrote it, or run the \
             campaign again with --fresh"
        ));
    }
    let mut header: H = serde_json::from_str(text).map_err(not_one)?;
    let at = text.rfind(CHECKSUM).map(|at| at + CHECKSUM.len());
    let bare = at.and_then(|at| Some(format!("{}{NO_SUM}{}", text.get(..at)?, text.get(at + DIGITS..)?)));
    if bare.is_none_or(|bare| sum(bare.as_bytes()) != *header.checksum_mut()) || !header.is_plausible() {
        return Err("is damaged: its checksum is another; run the campaign again with --fresh".into());
    }
    Ok(header)
}

/// The text of `finished.json` for these units.
pub(super) fn finished(units: &[u8]) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&Finished { units: sum(units) })? + "\n")
}

/// Whether `units` is the file that `finished.json` is about. An error says what is wrong with the
/// latter.
pub(super) fn is_finished(text: &[u8], units: &[u8]) -> Result<bool, String> {
    let text = text.strip_suffix(b"\n").ok_or("it is cut off")?;
    serde_json::from_slice::<Finished>(text).map(|f| f.units == sum(units)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::example::{Cases, Header};
    use super::*;

    #[test]
    fn a_line_is_json_and_any_changed_bit_of_it_is_noticed() {
        let written = line(7, &Cases { cases: 3 }).unwrap() + "\n";
        assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok_and(|v| v["unit"] == 7));
        assert!(read_line::<Cases>(written.as_bytes()).is_ok_and(|l| l.unit == 7 && l.record.cases == 3));
        for at in 0..written.len() {
            for bit in 0..8 {
                let mut bytes = written.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(read_line::<Cases>(&bytes).is_err(), "byte {at}, bit {bit}");
            }
            assert!(read_line::<Cases>(&written.as_bytes()[..at]).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn any_changed_bit_of_the_other_files_is_noticed() {
        let written = finished(b"units").unwrap();
        assert_eq!(is_finished(written.as_bytes(), b"units"), Ok(true));
        for (at, bit) in (0..written.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = written.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            assert_ne!(is_finished(&bytes, b"units"), Ok(true), "byte {at}, bit {bit}");
        }
        let header = header(&Header::new()).unwrap();
        assert!(read_header::<Header>(&header).is_ok(), "{:?}", read_header::<Header>(&header).err());
        for (at, bit) in (0..header.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = header.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let read =
                String::from_utf8(bytes).map_err(|e| e.to_string()).and_then(|text| read_header::<Header>(&text));
            assert!(read.is_err(), "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn counts_that_could_not_have_been_counted_are_refused() {
        assert!(read_line::<Cases>((line(0, &Cases { cases: 1000 }).unwrap() + "\n").as_bytes()).is_err());
    }

    #[test]
    fn results_of_another_sort_are_refused() {
        let other = header(&Header::new()).unwrap().replace("example", "guest");
        assert!(read_header::<Header>(&other).is_err_and(|why| why.contains("of a guest, and not of a")));
        assert_eq!(kind(&other), Ok("guest".to_owned()));
        assert_eq!(kind("{\"format\": 1}"), Ok("guest".to_owned()));
    }
}
