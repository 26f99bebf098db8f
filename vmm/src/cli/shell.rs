//! `vmm completions` and `vmm man`: what a shell and a manual make of the command line.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::{Ending, Failure};
use super::out::Out;

/// What `vmm completions --help` ends with.
pub const COMPLETIONS: &str = "\
Examples:
  vmm completions bash > ~/.local/share/bash-completion/completions/vmm
  vmm completions zsh > ~/.zfunc/_vmm
  vmm completions fish > ~/.config/fish/completions/vmm.fish";

/// What `vmm man --help` ends with.
pub const MAN: &str = "\
Examples:
  vmm man ~/.local/share/man/man1
  man vmm-explore";

/// `vmm completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `vmm man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder that the pages are written to: vmm.1, and one for each command
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Prints a shell's completions for `command`, which is the whole command line.
pub fn completions(args: &Completions, mut command: Command, out: &mut Out) -> Result<Ending, Failure> {
    // It writes to memory, since it panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "vmm", &mut script);
    out.with(|to| to.write_all(&script))?;
    Ok(Ending::Expected)
}

/// Writes the manual's pages of `command`, which is the whole command line.
pub fn man(args: &Man, command: Command) -> Result<Ending, Failure> {
    let written = std::fs::create_dir_all(&args.dir);
    written.and_then(|()| clap_mangen::generate_to(command, &args.dir)).map_err(Failure::writing(&args.dir))?;
    Ok(Ending::Expected)
}
