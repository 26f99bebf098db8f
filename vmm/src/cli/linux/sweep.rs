//! A sweep as it runs: progress, the table, and what goes into the document.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::kernel::KernelArgs;
use crate::cli::failure::{Ending, Failure};
use crate::cli::out::Out;
use crate::cli::output::Outputs;
use crate::cli::progress::bar;
use crate::inject::Gear;
use crate::kernels::{
    Baseline, BaselineInfo, CaseRow, Document, Kind, Lab, Part, Row, SiteError, Start, Sweep, SweepInfo, Table,
};
use crate::report::{LinuxReport, plain, plain_lines};

/// Every so many cases, one is run again by the other way to raise NMIs.
const RECHECK: u64 = 16;
/// Defects shown with their replay lines; the others stand in the table and in JSON.
const SHOWN: usize = 10;

/// How sweeps are run and shown.
#[derive(Clone, Copy)]
pub struct How<'a> {
    pub kernel: &'a KernelArgs,
    /// Where #1's handler faults in every case.
    pub fault: Option<&'a str>,
    /// CPU time for a case, in milliseconds.
    pub case_limit: u64,
    pub stop: &'a AtomicBool,
}

impl How<'_> {
    /// Goes to a site and sweeps it; returns the defects' places. Where the site cannot be
    /// swept, the document says why, and what other sites came to stays.
    pub fn site(
        self,
        lab: &mut Lab,
        (mutations, site): (&[String], &str),
        parts: &[Part],
        document: &mut Document,
        said: &mut Said,
        out: &mut Out,
    ) -> Result<Result<Vec<String>, String>, Failure> {
        let swept = lab.go(mutations, Start::Site(site)).map_err(Failure::from);
        let swept = swept.and_then(|()| self.sweep(lab, parts, document, said, out));
        match swept {
            Ok(defects) => Ok(Ok(defects)),
            Err(Failure::Linux(why)) => {
                let name = if site.is_empty() { "the default site" } else { site };
                let why = format!("{name} was not swept: {why}");
                said.line(&format!("{why}\n"), out)?;
                document.errors.push(SiteError { site: site.to_owned(), why: why.clone() });
                Ok(Err(why))
            }
            Err(other) => Err(other),
        }
    }

    /// Sweeps one site; returns the defects' places. What was done is in `document`.
    pub fn sweep(
        self,
        lab: &mut Lab,
        parts: &[Part],
        document: &mut Document,
        said: &mut Said,
        out: &mut Out,
    ) -> Result<Vec<String>, Failure> {
        let mut defects = Vec::new();
        for (part, kind) in parts.iter().flat_map(|p| [(*p, Kind::Masked), (*p, Kind::Unmasked)]) {
            if self.stop.load(Relaxed) {
                break;
            }
            let bar = bar("{bar:24} {percent:>3}% {elapsed} · {per_sec} · {eta} left");
            let mut info = SweepInfo::new(lab, part, kind);
            let (mut table, mutate) = (Table::default(), lab.mutations().to_vec());
            let mut of = 0;
            let on_row = &mut |row: &Row, lab: &Lab, total: usize| {
                of = total;
                bar.set_length(total as u64);
                bar.inc(1);
                table.add(row, lab);
                if row.is_defect() {
                    defects.push(lab.show(row.at.addr));
                }
                info.rows.push(CaseRow::of(row, lab, |schedule| {
                    self.kernel.replay(&mutate, Gear::Jump, self.case_limit, schedule)
                }));
            };
            let mut sweep = Sweep::new(lab, RECHECK, self.stop);
            info.fault = self.fault.map(|place| sweep.fault_in_handler(place)).transpose()?;
            match part {
                Part::Second => sweep.second(kind, on_row)?,
                Part::Third => sweep.third(kind, on_row)?,
                Part::Fault => sweep.fault(kind, on_row)?,
            }
            info.stats = sweep.stats();
            bar.finish_and_clear();
            document.complete &= info.stats.cases == of as u64 && of > 0;
            document.assists = lab.pc().assists();
            info.seconds = bar.elapsed().as_secs_f64();
            said.line(&shown(&info, part, kind, of, &table), out)?;
            document.add(info);
        }
        document.complete &= !self.stop.load(Relaxed);
        Ok(defects)
    }
}

/// What is said as results come in.
pub struct Said {
    outputs: Outputs,
    text: String,
}

impl Said {
    /// For results that go to these outputs.
    pub fn new(outputs: Outputs) -> Self {
        Self { outputs, text: String::new() }
    }

    /// Says more: at once where text goes to standard output.
    pub fn line(&mut self, text: &str, out: &mut Out) -> Result<(), Failure> {
        self.text += text;
        self.text.push('\n');
        if self.outputs.is_text() {
            out.line(text)?;
            out.flush()?;
        }
        Ok(())
    }

    /// All is said: writes the results where else they are wanted.
    pub fn write(self, document: &Document, out: &mut Out) -> Result<(), Failure> {
        let report = LinuxReport { document, said: self.text };
        match self.outputs.is_text() {
            true => self.outputs.write_files(&report),
            false => self.outputs.write(&report, out),
        }
    }
}

fn shown(info: &SweepInfo, part: Part, kind: Kind, of: usize, table: &Table) -> String {
    let stats = &info.stats;
    let part_of = if stats.cases == of as u64 { String::new() } else { format!(" of {of}") };
    let site = plain(&info.site);
    let fault = info.fault.as_ref().map_or(String::new(), |at| format!(", its handler faults at {}", plain(at)));
    let how = match (part, kind) {
        (Part::Fault, Kind::Masked) => String::new(),
        (Part::Fault, Kind::Unmasked) => ", and NMI #2 where it returns".into(),
        _ => format!(", NMIs {kind}"),
    };
    let mut out =
        format!("NMI #1 at {site}{fault}; {part}{how}: {}{part_of} cases in {:.1} s\n", stats.cases, info.seconds);
    out += &format!(
        "{} defects, {} say nothing; {} run again by KVM_NMI, {} disagreed\n",
        stats.defects, stats.missed, stats.rechecked, stats.disagreed
    );
    out += &format!("{}\n", plain_lines(&table.show()));
    let defects = info.rows.iter().filter(|r| r.defect);
    for row in defects.clone().take(SHOWN) {
        out += &format!("DEFECT {}: {}\n", row.verdict, plain(row.detail.as_deref().unwrap_or_default()));
        out += &format!("  {}\n", plain(row.replay.as_deref().unwrap_or_default()));
    }
    let more = defects.count().saturating_sub(SHOWN);
    if more > 0 {
        out += &format!("and {more} more (--json has all of them)\n");
    }
    out
}

/// Holds results to those of a file, where one is named.
pub fn hold_to(
    baseline: Option<&(String, Baseline)>,
    document: &mut Document,
    said: &mut Said,
    out: &mut Out,
) -> Result<(), Failure> {
    let Some((file, baseline)) = baseline else { return Ok(()) };
    let (known, new) = baseline.apply(document);
    let missing = baseline.missing(document);
    let mut text = format!("baseline {}: {known} defects were known, {new} are new\n", plain(file));
    for sweep in &missing {
        text += &format!("  it has no sweep of {}: every defect there is new\n", plain(sweep));
    }
    for row in document.sweeps.iter().flat_map(|s| &s.rows).filter(|r| r.defect && !r.known).take(SHOWN) {
        text += &format!("NEW {}: {}\n", row.verdict, plain(&row.schedule));
    }
    said.line(&text, out)?;
    document.baseline = Some(BaselineInfo { file: file.clone(), known, new, missing });
    Ok(())
}

/// How a command ends that has made these sweeps.
pub fn ending(document: &Document) -> Ending {
    let stats = &document.summary;
    let new = document.baseline.as_ref().map_or(stats.defects, |b| b.new);
    match () {
        () if stats.disagreed > 0 => Ending::Defect,
        () if !document.errors.is_empty() => Ending::Unexpected,
        () if !document.complete => Ending::Interrupted,
        () if new > 0 || stats.missed > 0 => Ending::Unexpected,
        () => Ending::Expected,
    }
}

/// What a result begins with.
pub fn header(document: &Document) -> String {
    let kernel = &document.kernel;
    format!(
        "{}\nhost   {}\nkernel {} ({}), symbols from {}\nwords  {}\nhelp for this host: {}",
        kernel.file,
        document.host,
        kernel.version,
        kernel.image,
        kernel.symbols,
        plain(&kernel.cmdline),
        document.assists
    ) + &match document.unchecked.is_empty() {
        true => String::new(),
        false => format!("\nnot checked, since the symbols do not name it: {}", document.unchecked.join(", ")),
    }
}
