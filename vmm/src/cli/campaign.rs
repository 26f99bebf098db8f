//! `vmm campaign` and `vmm merge`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::host::cpus;
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::{OutputArgs, Outputs};
use super::pictures::{heat, pictures};
use super::progress::Bar;
use super::values;
use crate::campaign::{self, Options, Results, Shard};
use crate::image::Guest;
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
    /// Threads, each with machines of its own [default: one per CPU]
    #[arg(long, short, value_name = "N", value_parser = values::jobs())]
    pub jobs: Option<u16>,
    /// Keep results in this folder, and resume from what is there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Throw away what --out holds of another campaign, image or host
    #[arg(long, requires = "out")]
    pub fresh: bool,
    /// Run only every N-th unit, beginning with number I (from 0)
    #[arg(long, value_name = "I/N")]
    pub shard: Option<crate::campaign::Shard>,
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
    let options = Options {
        jobs: args.jobs.map_or_else(cpus, usize::from),
        shard: args.shard.unwrap_or(Shard::WHOLE),
        out: args.out.as_deref(),
        fresh: args.fresh,
        disk: &campaign::Real,
        stop: &stop,
    };
    let outcome = campaign::run(campaign, guest, &host, &options, &mut Bar::new())?;
    let mut document = Document::of(&outcome.results);
    document.part = args.shard.map(|shard| format!("shard {shard}"));
    if args.timings {
        if let Some(dir) = &args.out {
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
            let kept = match &args.out {
                Some(dir) => format!("the same command line goes on from {}", dir.display()),
                None => "with --out DIR they would be kept for the next run".to_owned(),
            };
            say(format_args!("interrupted; these are the results so far ({kept})"));
            Ok(Ending::Interrupted)
        }
        (true, ending) => Ok(ending),
    }
}

/// Carries out `vmm merge`.
pub fn merge(args: &Merge, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let merged = campaign::merge(&args.dirs)?;
    merged.damaged.iter().for_each(say);
    if let Some(dir) = &args.out {
        campaign::write(dir, &merged.results, &campaign::Real)?;
    }
    kept(&merged.results, args.partial, &outputs, out)
}

/// Carries out `vmm report`.
pub fn report(args: &Shown, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let merged = campaign::merge(std::slice::from_ref(&args.dir))?;
    merged.damaged.iter().for_each(say);
    kept(&merged.results, args.partial, &outputs, out)
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
