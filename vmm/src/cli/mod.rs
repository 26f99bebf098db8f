//! The command line: arguments, progress, exit codes.

mod agree;
mod alive;
mod args;
mod bench;
mod boot;
mod campaign;
mod case;
mod command;
mod compare;
mod confine;
mod debug;
mod doctor;
mod dom0;
mod explain;
mod explore;
mod failure;
mod guest;
mod help;
mod host;
mod init;
mod inject;
mod input;
mod interrupt;
mod kernel;
mod line;
mod lines;
mod linux;
mod list;
mod necessity;
mod one;
mod opened;
mod out;
mod output;
mod pictures;
mod probe;
mod progress;
mod run;
mod shell;
mod values;
mod xen;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::report::plain;
use command::{Cli, Command};
pub use failure::{Ending, Failure};
use guest::load;
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
    let cli = match Cli::try_parse() {
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

fn dispatch(cli: &Cli, out: &mut Out) -> Result<Ending, Failure> {
    let line = line::of(&cli.command)?;
    let opened = confine::confine(cli, line.as_deref())?;
    let case = line.as_deref().and_then(Command::kernel_case);
    match &cli.command {
        Command::List(what) => list::list(what, opened, out),
        Command::Run(args) => run::run(args, &load(&args.guest.image)?, opened, out),
        Command::Explain(args) => match case {
            Some(case) => explain::kernel(args, case, opened, out),
            None => explain::explain(args, &load(&args.guest.image)?, opened, out),
        },
        Command::Replay(args) => run::replay(args, &load(&args.guest.image)?, opened, out),
        Command::Campaign(args) => campaign::campaign(args, &load(&args.guest.image)?, opened, out),
        Command::Bench(args) => bench::run(args, &load(&args.guest.image)?, opened, out),
        Command::Compare(args) => compare::run(args, &load(&args.guest.image)?, opened, out),
        Command::Explore(args) => explore::run(args, &load(&args.guest.image)?, opened, out),
        Command::Necessity(args) => necessity::run(args, &load(&args.guest.image)?, opened, out),
        Command::Debug(args) => match case.or_else(|| args.case()) {
            Some(case) => debug::kernel(args, case, opened),
            None => debug::debug(args, &load(&args.guest.image)?, opened),
        },
        Command::Merge(args) => campaign::merge(args, out),
        Command::Report(args) => campaign::report(args, out),
        Command::Probe(args) => probe::probe(args, opened, out),
        Command::Agree(args) => agree::agree(args, out),
        Command::Kernel(args) => kernel::run(args, opened, out),
        Command::Xen(args) => xen::run(args, opened, out),
        Command::Linux(args) => linux::run(args, opened, out),
        Command::Doctor(args) => doctor::doctor(args, opened.bare, out),
        Command::Init(args) => init::init(args, out),
        Command::Completions(args) => shell::completions(args, Cli::command(), out),
        Command::Man(args) => shell::man(args, Cli::command()),
    }
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
