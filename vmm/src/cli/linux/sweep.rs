//! A sweep as it runs: progress, the table, and what goes into the document.

use std::sync::atomic::AtomicBool;

use crate::cli::args::UnitArgs;
use crate::cli::boot::Booted;
use crate::cli::failure::{Ending, Failure};
use crate::cli::out::Out;
use crate::cli::output::Outputs;
use crate::cli::progress::Bar;
use crate::kernels::{
    Baseline, BaselineInfo, CampaignRun, Document, Header, Kind, Lab, Part, Request, RunJudgement, SweepInfo, Table,
    sweep,
};
use crate::report::{LinuxReport, plain, plain_lines};

/// Defects shown with their replay lines; the others stand in the table and in JSON.
const SHOWN: usize = 10;

/// Sweeps that are to be made.
pub struct Sweeps<'a> {
    /// How their units are run.
    pub units: &'a UnitArgs,
    /// CPU time for a case, in milliseconds.
    pub case_limit: u64,
    /// The words that run the kernel again.
    pub command: String,
    /// The campaign's name, where there is one.
    pub name: Option<String>,
    pub runs: &'a [CampaignRun],
    pub stop: &'a AtomicBool,
}

impl Sweeps<'_> {
    /// Makes them, and says what came of each as it is over. Returns the whole, and whether all that
    /// was asked for was run.
    pub fn make(self, booted: Booted, said: &mut Said, out: &mut Out) -> Result<(Document, bool), Failure> {
        let Booted { mut lab, info, host } = booted;
        let (name, options) = (self.name, self.units.options(self.stop));
        let title = name.as_ref().map_or(String::new(), |name| format!("{}: ", plain(name)));
        said.line(&format!("{title}{}\n", header(&Document::new(info.clone(), &lab))), out)?;
        let request = Request {
            name,
            runs: self.runs,
            kernel: info,
            command: self.command,
            case_limit: self.case_limit,
            shard: options.shard,
        };
        let planned = Header::plan(&mut lab, request, self.stop)?;
        let (seed, kernel) = (lab.seed(&host)?, lab.kernel().twin());
        drop(lab);
        let open = || Lab::twin(&host, kernel.twin(), &seed);
        let mut lines = Ok(());
        let on_cell = &mut |info: &SweepInfo| {
            if lines.is_ok() {
                lines = said.line(&shown(info), out);
            }
        };
        let (results, finished) = sweep(planned, &open, &options, &mut Bar::new(), on_cell)?;
        lines?;
        let document = Document::of(&results);
        said.judgements(&document, out)?;
        Ok((document, finished))
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

    /// Says what could not be swept, and which runs of a campaign are as expected.
    pub fn judgements(&mut self, document: &Document, out: &mut Out) -> Result<(), Failure> {
        document.errors.iter().try_for_each(|e| self.line(&format!("{}\n", plain_lines(&e.why)), out))?;
        document.runs.iter().try_for_each(|run| {
            let word = match run.as_expected {
                None => "not all cases were run",
                Some(true) => "as expected",
                Some(false) => "NOT AS EXPECTED",
            };
            let RunJudgement { about, site, why, .. } = run;
            self.line(&format!("{} ({}): {word}: {}", plain(about), plain(site), plain(why)), out)
        })
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

/// A sweep, as text.
pub fn shown(info: &SweepInfo) -> String {
    let SweepInfo { stats, part, nmis, of, .. } = info;
    let part_of = if stats.cases == *of { String::new() } else { format!(" of {of}") };
    let site = plain(&info.site);
    let fault = info.fault.as_ref().map_or(String::new(), |at| format!(", its handler faults at {}", plain(at)));
    let by = if info.fault_by.is_usual() { String::new() } else { format!(" ({})", info.fault_by.word()) };
    let how = match (part, nmis) {
        (Part::Fault, Kind::Masked) => String::new(),
        (Part::Fault, Kind::Unmasked) => ", and NMI #2 where it returns".into(),
        _ => format!(", NMIs {nmis}"),
    };
    let time = info.seconds.map_or(String::new(), |seconds| format!(" in {seconds:.1} s"));
    let mut out = format!("NMI #1 at {site}{fault}; {part}{by}{how}: {}{part_of} cases{time}\n", stats.cases);
    out += &format!(
        "{} defects, {} say nothing; {} run again by KVM_NMI, {} disagreed\n",
        stats.defects, stats.missed, stats.rechecked, stats.disagreed
    );
    out += &format!("{}\n", plain_lines(&Table::of(info).show()));
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

/// How a command ends that has made these sweeps, which were to be only a `part` of all.
pub fn ending(document: &Document, part: bool) -> Ending {
    let stats = &document.summary;
    let new = document.baseline.as_ref().map_or(stats.defects, |b| b.new);
    match () {
        () if stats.disagreed > 0 => Ending::Defect,
        () if !document.errors.is_empty() => Ending::Unexpected,
        () if !document.complete && !part => Ending::Interrupted,
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
