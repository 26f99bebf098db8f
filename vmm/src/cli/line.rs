//! The line that a sweep over a kernel printed for a case: a command of its own.

use clap::Parser;

use super::case::{KernelCase, NO_SCHEDULE};
use super::command::{Cli, Command};
use super::failure::Failure;

/// The command that `words` are, where they are one of a kernel's; they may be one word, as it was
/// copied.
fn command(words: &[String]) -> Result<Option<Box<Command>>, Failure> {
    let text = words.join(" ");
    let mut first = text.split_whitespace();
    if !matches!((first.next(), first.next()), (Some("vmm"), Some("linux" | "kernel" | "xen"))) {
        return Ok(None);
    }
    let usage = |why: &str| Failure::Usage(format!("the line {text:?}: {why}"));
    let words = match words {
        [whole] => shlex::split(whole).ok_or_else(|| usage("a quote is not closed"))?,
        words => words.to_vec(),
    };
    let cli = Cli::try_parse_from(words).map_err(|e| usage(e.to_string().trim_end()))?;
    match cli.command.kernel_case().and_then(KernelCase::schedule) {
        Some(_) => Ok(Some(Box::new(cli.command))),
        None => Err(usage(NO_SCHEDULE)),
    }
}

impl Command {
    /// The command as a case on a kernel, where it can be one.
    pub fn kernel_case(&self) -> Option<&dyn KernelCase> {
        match self {
            Command::Linux(args) => Some(&**args),
            Command::Kernel(args) => Some(&**args),
            Command::Xen(args) => Some(&**args),
            _ => None,
        }
    }
}

/// The command that a command was given as its line, where it was given one of a kernel's.
pub fn of(given: &Command) -> Result<Option<Box<Command>>, Failure> {
    match given {
        Command::Debug(args) => command(&args.line),
        Command::Explain(args) => command(&args.line),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_line_is_read_whole_and_in_words() {
        let whole = "vmm kernel --image 'my os' --mutate a=90 --gear arm --case-limit 7 --schedule 'nmi@a nmi@b'";
        let parts = ["vmm", "kernel", "--image", "my os", "--mutate", "a=90", "--case-limit", "7", "--schedule"];
        for line in [words(&[whole]), words(&[&parts[..], &["nmi@a nmi@b"]].concat())] {
            let command = command(&line).unwrap().unwrap();
            let case = command.kernel_case().unwrap();
            assert_eq!((case.schedule(), case.case_limit()), (Some("nmi@a nmi@b"), 7));
            assert_eq!(case.mutations(), ["a=90"]);
            assert!(case.line("nmi@c").starts_with("vmm kernel --image 'my os' "), "{}", case.line("nmi@c"));
        }
        assert!(command(&words(&["naive/quiet/native@0123456789abcdef nmi@a#1"])).unwrap().is_none());
        for bad in ["vmm xen --sweep", "vmm kernel --image k --sweep --site a", "vmm kernel --image 'k", "vmm kernel "]
        {
            assert!(command(&words(&[bad])).is_err(), "{bad}");
        }
    }
}
