//! What this host's KVM does with NMIs, measured by small guests.
//!
//! Each [`Probe`] is one property that a verdict or a recipe relies on, with what
//! the architecture says and where. A [`Report`] holds the host's answers and a
//! fingerprint over them. Code that must choose by the host asks [`Facts`].

mod bench;
pub mod child;
mod code;
mod compare;
mod delivery;
mod exits;
mod facts;
mod flags;
mod irets;
pub mod kept;
mod masking;
pub mod model;
mod pending;
mod report;
mod ring3;
mod smm;
mod spec;
mod stepping;
mod table;
mod traps;

pub use compare::{Comparison, Line};
pub use facts::Facts;
pub use report::{Report, Row, Status};
pub use spec::{Answer, Probe};
pub use table::summary;

use crate::host_id::HostId;
use crate::kvm::Host;

/// The probes that every run makes, in the order of the report.
pub fn probes() -> impl Iterator<Item = &'static Probe> {
    [
        delivery::PROBES,
        masking::PROBES,
        pending::PROBES,
        smm::PROBES,
        irets::PROBES,
        stepping::PROBES,
        traps::PROBES,
        flags::PROBES,
        ring3::PROBES,
        exits::PROBES,
    ]
    .into_iter()
    .flatten()
}

/// Probes that may hang a process in the kernel for good: made only where asked for,
/// and in a process of their own.
pub fn risky_probes() -> impl Iterator<Item = &'static Probe> {
    exits::RISKY.iter()
}

/// The probe of this name.
pub fn probe(id: &str) -> Option<&'static Probe> {
    probes().chain(risky_probes()).find(|p| p.id == id)
}

/// Makes one probe.
pub fn measure(host: &Host, probe: &Probe) -> Row {
    Row::new(probe, (probe.measure)(host).map_err(|e| e.to_string()))
}

/// Makes all probes in this process.
pub fn measure_all(host: &Host) -> Report {
    Report::new(HostId::here(), probes().map(|p| measure(host, p)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sentences_have_no_end() {
        let mut ids: Vec<_> = probes().chain(risky_probes()).map(|p| p.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for p in probes().chain(risky_probes()) {
            assert!(!p.property.ends_with('.') && !p.lab.ends_with('.'), "{}", p.id);
            assert!(!p.source.is_empty() && !p.lab.is_empty(), "{}", p.id);
        }
    }
}
