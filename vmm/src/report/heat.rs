//! The entry code as a heat map: for each instruction, what arrived there and how it ended.

use std::collections::BTreeMap;
use std::path::Path;

use super::plain::plain;
use crate::campaign::Ended;
use crate::image::declare::Scheme;
use crate::image::{Guest, Names};
use crate::inject::Schedule;
use crate::inject::coverage::{Coverage, Kind, Known};
use crate::oracle::VerdictKind;

/// Most instructions that are listed.
const MOST: usize = 2_000;
/// Most bytes of a source file that is shown.
const MOST_SOURCE: u64 = 1 << 20;
/// Names of files that are source text. The image's DWARF names the file, and what it names
/// otherwise is none of a report's business.
pub const SOURCES: [&str; 8] = ["S", "s", "c", "h", "rs", "asm", "inc", "ld"];

/// A scheme's entry code, and what its cases did with it.
#[derive(Clone, Debug)]
pub struct Heat {
    /// The scheme.
    pub scheme: String,
    /// Instructions by ascending address.
    pub lines: Vec<Line>,
    /// The source is shown beside the code.
    pub source: bool,
    /// It is known how cases ended: there were cases, and not searches alone.
    pub ended: bool,
    /// Scenarios in which a search closed without a failure: all that arrives ends in a pass.
    pub proved: Vec<String>,
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Line {
    /// The label that stands before it.
    pub label: Option<String>,
    /// As schedules name it.
    pub place: String,
    /// In AT&T syntax.
    pub text: String,
    /// `file:line` and the line's text, where that can be read here.
    pub source: Option<(String, String)>,
    /// What is known of it, by kind of context.
    pub contexts: Vec<(String, Known)>,
    /// How the cases with an NMI there ended, and how many they are: the passes first.
    pub ended: Vec<(VerdictKind, u64)>,
    /// Failures whose schedules begin there.
    pub begins: Vec<Failing>,
    /// Failures whose schedules end there.
    pub ends: Vec<Failing>,
}

/// A failure that an instruction has a part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// As `violation(I5)`.
    pub verdict: String,
    /// Scenario.
    pub scenario: String,
    /// Its shortest schedule.
    pub schedule: String,
}

/// What one scheme's cases came to.
#[derive(Default)]
pub struct Cases {
    /// What all of them covered.
    pub coverage: Coverage,
    /// How they ended.
    pub ended: Ended,
    /// Scenarios in which a search closed without a failure.
    pub proved: Vec<String>,
    /// Their failures.
    pub failing: Vec<Failing>,
}

impl Heat {
    /// `None` where execution was never seen in the scheme's code.
    pub fn new(guest: &Guest, scheme: &Scheme, cases: &Cases) -> Option<Self> {
        let names = Names::new(guest, &scheme.prefix);
        let (mut begins, mut ends): (BTreeMap<u64, Vec<Failing>>, BTreeMap<u64, Vec<Failing>>) = Default::default();
        for failing in &cases.failing {
            // It was shown by this very image, so it can be read.
            let Ok(schedule) = Schedule::parse(&failing.schedule, names) else { continue };
            if let (Some(first), Some(last)) = (schedule.0.first(), schedule.0.last()) {
                begins.entry(first.at.addr).or_default().push(failing.clone());
                ends.entry(last.at.addr).or_default().push(failing.clone());
            }
        }
        let stacks: Vec<&str> = guest.image.declared.stacks.iter().map(|s| s.name.as_str()).collect();
        let mut files = Files::default();
        let mut lines: Vec<Line> = Vec::new();
        for addr in own(guest, scheme, &cases.coverage).into_iter().take(MOST) {
            let Some(insn) = guest.code.at(addr) else { continue };
            let place = names.show(addr);
            let known = cases.coverage.at(addr).map(|(kind, known)| (context(&kind, &stacks), known));
            lines.push(Line {
                label: (!place.contains("+0x")).then(|| place.clone()),
                text: insn.text().replace('\t', " "),
                source: guest.source_line(addr).map(|(file, line)| files.line(file, line)),
                contexts: known.collect(),
                ended: cases.ended.at(addr).collect(),
                begins: begins.remove(&addr).unwrap_or_default(),
                ends: ends.remove(&addr).unwrap_or_default(),
                place,
            });
        }
        let source = lines.iter().any(|l| l.source.is_some());
        let ended = !cases.ended.is_empty();
        let proved = cases.proved.clone();
        (!lines.is_empty()).then(|| Self { scheme: scheme.name.clone(), lines, source, ended, proved })
    }
}

/// The scheme's code: what its labels and its entry name, or else, where it has no prefix, all that
/// execution stood at with NMIs blocked.
fn own(guest: &Guest, scheme: &Scheme, coverage: &Coverage) -> Vec<u64> {
    if scheme.prefix.is_empty() {
        let blocked = |at: &u64| coverage.at(*at).any(|(kind, _)| kind.blocked);
        return coverage.places().into_iter().filter(blocked).collect();
    }
    let mine = |at: &u64| {
        let symbol = guest.image.symbols.nearest_code(*at, &scheme.prefix);
        symbol.is_some_and(|s| s.name.starts_with(&scheme.prefix) || Some(s.addr) == scheme.entry)
    };
    guest.code.iter().map(|d| d.insn.ip()).filter(mine).collect()
}

/// A kind of context in a few words.
fn context(kind: &Kind, stacks: &[&str]) -> String {
    let stack = kind.stack.and_then(|i| stacks.get(usize::from(i))).copied().unwrap_or("no");
    let gs = if kind.kernel_gs { "kernel" } else { "user" };
    let mask = if kind.blocked { "blocked" } else { "open" };
    let pending = if kind.pending { ", pending" } else { "" };
    format!("CPL{}, {gs} GS, {stack} stack, {mask}{pending}", kind.cpl)
}

/// Source files that were read, by lines.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<String>>);

impl Files {
    /// `file:line` and the line's text, which is empty where the file is not here.
    fn line(&mut self, file: &str, line: u32) -> (String, String) {
        let lines = self.0.entry(file.to_owned()).or_insert_with(|| read(Path::new(file)));
        let text = (line as usize).checked_sub(1).and_then(|i| lines.get(i)).cloned().unwrap_or_default();
        (format!("{}:{line}", file.rsplit('/').next().unwrap_or(file)), plain(text.trim()).into_owned())
    }
}

fn read(path: &Path) -> Vec<String> {
    let is_source = path.extension().and_then(|e| e.to_str()).is_some_and(|e| SOURCES.contains(&e));
    let fits = is_source && std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MOST_SOURCE);
    let text = if fits { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}
