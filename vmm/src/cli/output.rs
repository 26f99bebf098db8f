//! Where results go, and in which formats.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::out::Out;
use crate::report::{self, Format, Kind, Look, Report};

/// How results are shown.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// How, and where to.
    #[arg(long, value_name = "FORMAT[=FILE]", value_parser = wanted, help = formats())]
    format: Vec<Wanted>,
    /// Print JSON: --format json
    #[arg(long)]
    json: bool,
    /// Write a JUnit report, too: --format junit=FILE
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a page for a browser, too: --format html=FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Whether text is coloured; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: When,
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// On a terminal, unless the variable NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A format, and where it goes.
#[derive(Clone, Debug)]
struct Wanted {
    format: &'static dyn Format,
    file: Option<PathBuf>,
}

/// The help of `--format`.
fn formats() -> String {
    let names = report::format_names();
    let names = names.rsplit_once(", ").map_or(names.clone(), |(others, last)| format!("{others} or {last}"));
    format!("Write the result as {names}, to a file or to standard output; may be repeated [default: text]")
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let (name, file) = match text.split_once('=') {
        Some((_, "")) => return Err("the file's name is missing".into()),
        Some((name, file)) => (name, Some(PathBuf::from(file))),
        None => (text, None),
    };
    let format = report::format(name);
    let format =
        format.ok_or_else(|| format!("unknown format {name:?}; expected one of {}", report::format_names()))?;
    Ok(Wanted { format, file })
}

impl OutputArgs {
    /// The files that results go to.
    pub fn files(&self) -> Vec<PathBuf> {
        self.format.iter().filter_map(|w| w.file.clone()).chain(self.junit.clone()).chain(self.html.clone()).collect()
    }

    /// What they ask for, which must be what a command of this kind has.
    pub fn outputs(&self, kind: Kind) -> Result<Outputs, Failure> {
        let mut all = self.format.clone();
        let alias = |name: &str, file| report::format(name).map(|format| Wanted { format, file });
        all.extend(alias("json", None).filter(|_| self.json));
        all.extend(self.junit.clone().and_then(|file| alias("junit", Some(file))));
        all.extend(self.html.clone().and_then(|file| alias("html", Some(file))));
        if let Some(w) = all.iter().find(|w| !w.format.fits(kind)) {
            let why = format!("this command has nothing to write as {}", w.format.name());
            return Err(Failure::Usage(why));
        }
        let (files, screen): (Vec<Wanted>, Vec<Wanted>) = all.into_iter().partition(|w| w.file.is_some());
        if let [first, second, ..] = &screen[..]
            && first.format.name() != second.format.name()
        {
            return Err(Failure::Usage(format!(
                "{} and {} cannot both go to standard output; name a file, as in --format {}=FILE",
                first.format.name(),
                second.format.name(),
                second.format.name()
            )));
        }
        Ok(Outputs { screen: screen.first().map(|w| w.format), files, look: self.look() })
    }

    fn look(&self) -> Look {
        let terminal = std::io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Look {
            width: terminal.then(|| comfy_table::Table::new().width()).flatten(),
            colour: match self.color {
                When::Always => true,
                When::Never => false,
                When::Auto => terminal && !no_colour && !dumb,
            },
        }
    }
}

/// Where a command's results go.
#[derive(Debug)]
pub struct Outputs {
    /// What goes to standard output; `None`: text.
    screen: Option<&'static dyn Format>,
    files: Vec<Wanted>,
    look: Look,
}

impl Outputs {
    /// Whether text goes to standard output, so that a command may say things there as it
    /// learns of them.
    pub fn is_text(&self) -> bool {
        self.screen.is_none_or(|format| format.name() == "text")
    }

    /// How text may look on standard output.
    pub fn screen_look(&self) -> Look {
        self.look
    }

    /// Whether a format is asked for by this name.
    pub fn wants(&self, name: &str) -> bool {
        self.screen.iter().chain(self.files.iter().map(|w| &w.format)).any(|format| format.name() == name)
    }

    /// Writes a report everywhere.
    pub fn write(&self, report: &dyn Report, out: &mut Out) -> Result<(), Failure> {
        self.write_files(report)?;
        match self.screen {
            Some(format) => out.with(|to| format.write(report, &self.look, to)),
            None => out.text(&report.text(&self.look)),
        }
    }

    /// Writes a report to the files only: where what it says stands on standard output
    /// already.
    pub fn write_files(&self, report: &dyn Report) -> Result<(), Failure> {
        for Wanted { format, file } in &self.files {
            let Some(path) = file else { continue };
            let write = || {
                let mut to = BufWriter::new(File::create(path)?);
                format.write(report, &Look::default(), &mut to)?;
                to.flush()
            };
            write().map_err(Failure::writing(path))?;
        }
        Ok(())
    }
}
