//! `vmm linux cache`: the machines that are kept.

use clap::Subcommand;

use crate::cli::failure::{Ending, Failure};
use crate::cli::out::Out;
use crate::kernels::LabError;
use crate::kernels::cache;
use crate::report::columns;

/// What to do with saved machines.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum What {
    /// List them
    List,
    /// Remove all of them
    Clear,
}

/// Carries out the command.
pub fn run(what: What, out: &mut Out) -> Result<Ending, Failure> {
    match what {
        What::Clear => {
            let removed = cache::clear().map_err(LabError::from)?;
            out.line(&format!("{removed} removed from {}", cache::machine_cache().display()))?;
        }
        What::List => {
            let all = cache::list().map_err(LabError::from)?;
            let rows = all.iter().map(|e| {
                let name = e.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mib = format!("{:.1}", e.bytes as f64 / f64::from(1 << 20));
                let (kernel, cmdline, host) = match &e.header {
                    Ok(h) => (h.file.clone(), h.cmdline.clone(), h.fingerprint.clone()),
                    Err(why) => (why.to_string(), String::new(), String::new()),
                };
                [name, mib, host, kernel, cmdline]
            });
            out.text(&columns(["FILE", "MIB", "HOST", "KERNEL", "CMDLINE"], rows))?;
            out.line(&format!("in {}", cache::machine_cache().display()))?;
        }
    }
    Ok(Ending::Expected)
}
