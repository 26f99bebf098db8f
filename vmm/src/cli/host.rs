//! The host's KVM, with what was measured of it: every command that runs a guest
//! begins here.

use std::process::Command;

use super::failure::Failure;
use super::out::whisper;
use crate::host_id::HostId;
use crate::kvm::Host;
use crate::probe::{Facts, Probe, Report, child, kept, probes};

/// Opens the host, and measures it unless that was done since the last boot; `bare`: without a
/// sandbox.
pub fn open(bare: bool) -> Result<Host, Failure> {
    let host = Host::open()?;
    let place = kept::place(host.id());
    let report = match place.as_deref().and_then(kept::read) {
        Some(report) => report,
        None => {
            whisper("measuring what this KVM does with NMIs (once after a boot) …");
            let report = measure(&probes().collect::<Vec<_>>(), bare)?;
            if let Some(place) = place {
                keep(&place, &report);
            }
            report
        }
    };
    let facts = Facts::of(&report);
    if !facts.exact_nmi {
        return Err(Failure::Inexact(wrong(&report, Facts::EXACT_NMI)));
    }
    Ok(host.measured(report.host, facts.quirks()))
}

/// Makes `chosen`, in processes of their own: one that hangs costs its own row.
pub fn measure(chosen: &[&Probe], bare: bool) -> Result<Report, Failure> {
    let failed = |why| Failure::Scarce { name: "this program, to run itself".into(), why };
    let program = std::env::current_exe().map_err(failed)?;
    let command = || {
        let mut command = Command::new(&program);
        command.args(bare.then_some("--no-sandbox")).args(["probe", "--rows"]);
        command
    };
    let rows = child::measure(command, chosen, child::LIMIT).map_err(failed)?;
    Ok(Report::new(HostId::here(), rows))
}

/// Keeps a report for the commands to come, if it can be kept.
pub fn keep(place: &std::path::Path, report: &Report) {
    if let Err(why) = kept::write(place, report) {
        log::warn!("{}: {why}; the next command measures this KVM again", place.display());
    }
}

/// The probes among `ids` that are not answered as they must be, with the answers.
fn wrong(report: &Report, ids: &[&str]) -> String {
    let rows = report.rows.iter().filter(|r| ids.contains(&r.id.as_str()) && !report.is_right(&r.id));
    rows.map(|r| format!("{}: {}", r.id, r.answer())).collect::<Vec<_>>().join("; ")
}

/// Threads to use where nobody says how many.
pub fn cpus() -> usize {
    // Asks the control groups, whose files are out of reach later: confining begins with this.
    static CPUS: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    *CPUS
}
