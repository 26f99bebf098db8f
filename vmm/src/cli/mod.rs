//! The command line: arguments, progress, exit codes.

pub mod agree;
pub mod args;
mod bench;
mod campaign;
mod compare;
mod explain;
mod explore;
mod failure;
mod help;
mod host;
mod input;
mod interrupt;
mod linux;
mod list;
mod out;
mod output;
pub mod probe;
mod progress;
mod run;
mod values;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::image::{Guest, Image};
use crate::report::plain;
pub use failure::{Ending, Failure};
use out::{Out, say};

/// Exit code of a defect of ours.
const DEFECT: i32 = 70;

/// The whole program.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say(format_args!("this is a defect of vmm itself, please report it: {panic}"));
        // Whichever thread it was, no result of this process is to be trusted.
        std::process::exit(DEFECT);
    }));
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return answered(&answer),
    };
    start_log(cli.common.verbose);
    let mut out = Out::new();
    let ending = dispatch(&cli, &mut out).and_then(|ending| out.flush().map(|()| ending));
    match ending {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(failure) => {
            let _ = out.flush();
            say(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// What clap says itself: help and versions on standard output, mistakes on standard error.
fn answered(answer: &clap::Error) -> ExitCode {
    const USAGE: u8 = 2;
    let printed = answer.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if answer.use_stderr() => ExitCode::from(USAGE),
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            let failure = Failure::Write { what: "standard output".into(), why };
            say(&failure);
            ExitCode::from(failure.code())
        }
        _ => ExitCode::SUCCESS,
    }
}

fn dispatch(cli: &args::Cli, out: &mut Out) -> Result<Ending, Failure> {
    match &cli.command {
        args::Command::List(what) => list::list(what, out),
        args::Command::Run(args) => run::run(args, &load(&args.guest.image)?, out),
        args::Command::Explain(args) => explain::explain(args, &load(&args.guest.image)?, out),
        args::Command::Replay(args) => run::replay(args, &load(&args.guest.image)?, out),
        args::Command::Campaign(args) => campaign::campaign(args, &load(&args.guest.image)?, out),
        args::Command::Bench(args) => bench::run(args, &load(&args.guest.image)?, out),
        args::Command::Compare(args) => compare::run(args, &load(&args.guest.image)?, out),
        args::Command::Explore(args) => explore::run(args, &load(&args.guest.image)?, out),
        args::Command::Merge(args) => campaign::merge(args, out),
        args::Command::Report(args) => campaign::report(args, out),
        args::Command::Probe(args) => probe::probe(args, out),
        args::Command::Agree(args) => agree::agree(args, out),
        args::Command::Linux(args) => linux::run(args, out),
    }
}

/// Threads to use where nobody says how many.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The image to test.
fn load(args: &args::ImageArgs) -> Result<Arc<Guest>, Failure> {
    let read = |path: &std::path::Path| {
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => Ok((name, bytes)),
            Err(e) => Err(Failure::Image { name, why: e.to_string() }),
        }
    };
    let bad = |name: String, why: &dyn std::fmt::Display| Failure::Image { name, why: why.to_string() };
    let image = match &args.guest {
        None => Image::builtin().map_err(|e| bad("(built in)".to_owned(), &e))?,
        Some(path) => {
            let (name, bytes) = read(path)?;
            Image::parse(&bytes).map_err(|e| bad(name, &e))?
        }
    };
    let Some(path) = &args.entry else { return Ok(Guest::new(image)) };
    let (name, bytes) = read(path)?;
    crate::image::link::link(&image, &bytes).map(Guest::new).map_err(|e| bad(name, &e))
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).format(|to, record| {
        let (level, target) = (record.level(), record.target());
        writeln!(to, "[{level:5} {target}] {}", plain(&record.args().to_string()))
    });
    if verbose == 0 {
        builder.parse_default_env();
    }
    // Fails only where a logger is set already.
    let _ = builder.try_init();
}
