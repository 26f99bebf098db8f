//! `vmm campaign` and `vmm merge`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::args::{GuestArgs, UnitArgs};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::linux;
use super::necessity;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::{OutputArgs, Outputs};
use super::pictures::{heat, pictures};
use super::progress::Bar;
use crate::campaign::{self, Results};
use crate::folder::{self, Subject};
use crate::image::Guest;
use crate::kernels;
use crate::necessity::Header as Answer;
use crate::report::{Document, Kind};

/// `vmm campaign`.
#[derive(Debug, Args)]
pub struct Campaign {
    /// The campaign (see scripts/campaigns/)
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How its units are run.
    #[command(flatten)]
    pub units: UnitArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Say how long each scheme and scenario took
    #[arg(long)]
    pub timings: bool,
}

/// `vmm merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Result folders, in any order
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Write the whole as one result folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What is there is enough: that units of work are missing is no failure
    #[arg(long)]
    pub partial: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `vmm report`.
#[derive(Debug, Args)]
pub struct Shown {
    /// The result folder; nothing is written to it
    #[arg(value_name = "DIR", required = true)]
    pub dir: PathBuf,
    /// What is there is enough: that units of work are missing is no failure
    #[arg(long)]
    pub partial: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out `vmm campaign`.
pub fn campaign(args: &Campaign, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let mut campaign = campaign::read(&args.file)?;
    campaign.knobs.transport = args.guest.transport;
    let host = opened.host()?;
    let stop = on_interrupt();
    let options = args.units.options(&stop);
    let outcome = campaign::run(campaign, guest, &host, &options, &mut Bar::new())?;
    let mut document = Document::of(&outcome.results);
    document.part = args.units.shard.map(|shard| format!("shard {shard}"));
    if args.timings {
        if let Some(dir) = &args.units.out {
            campaign::write_timings(dir, &outcome.timings)?;
        }
        document.timings = Some(outcome.timings);
    }
    if outputs.wants("html") {
        document.pictures = pictures(&outcome.results, guest, &host);
    }
    outputs.write(&document, out)?;
    match (outcome.finished, ending(&document)) {
        (_, Ending::Defect) => Ok(Ending::Defect),
        (false, _) => {
            say(args.units.interrupted());
            Ok(Ending::Interrupted)
        }
        (true, ending) => Ok(ending),
    }
}

/// Carries out `vmm merge`.
pub fn merge(args: &Merge, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let to = args.out.as_deref();
    match kind(&args.dirs)?.as_deref() {
        Some(kernels::Header::KIND) => return linux::merge(&args.dirs, to, args.partial, outputs, out),
        Some(Answer::KIND) => return necessity::merge(&args.dirs, to, args.partial, &outputs, out),
        _ => {}
    }
    let (results, damaged) = campaign::merge(&args.dirs)?;
    damaged.iter().for_each(say);
    if let Some(dir) = &args.out {
        folder::write(dir, &results.header, &results.units, &folder::Real)?;
    }
    kept(&results, args.partial, &outputs, out)
}

/// Carries out `vmm report`.
pub fn report(args: &Shown, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let dirs = std::slice::from_ref(&args.dir);
    match kind(dirs)?.as_deref() {
        Some(kernels::Header::KIND) => return linux::merge(dirs, None, args.partial, outputs, out),
        Some(Answer::KIND) => return necessity::merge(dirs, None, args.partial, &outputs, out),
        _ => {}
    }
    let (results, damaged) = campaign::merge(dirs)?;
    damaged.iter().for_each(say);
    kept(&results, args.partial, &outputs, out)
}

/// What sort of results folders hold: that of the first.
fn kind(dirs: &[PathBuf]) -> Result<Option<String>, Failure> {
    Ok(dirs.first().map(|dir| folder::kind(dir)).transpose()?)
}

/// Shows results that were kept.
fn kept(results: &Results, partial: bool, outputs: &Outputs, out: &mut Out) -> Result<Ending, Failure> {
    let mut document = Document::of(results);
    document.part = partial.then(|| "a part".to_owned());
    // The folder does not hold the image; the built-in one can be shown where it is that.
    let guest = outputs.wants("html").then(crate::image::Image::builtin).and_then(Result::ok).map(Guest::new);
    if let Some(guest) = guest.filter(|guest| guest.image.hash == results.header.image) {
        document.pictures.heat = heat(results, &guest);
    }
    outputs.write(&document, out)?;
    if let Some(missing) = document.missing() {
        let hint = if partial { "" } else { " (--partial takes what is there)" };
        say(format_args!("{missing}{hint}"));
    }
    Ok(ending(&document))
}

/// How a command ends that has this to report.
fn ending(document: &Document) -> Ending {
    let s = &document.summary;
    match () {
        () if s.disagreed > 0 => Ending::Defect,
        () if s.unexpected > 0 || !document.is_evidence() => Ending::Unexpected,
        () => Ending::Expected,
    }
}
