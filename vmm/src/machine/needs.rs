//! Which scenarios a host cannot show, by what was probed of it.

use crate::image::Need;
use crate::image::declare::Scenario;
use crate::kvm::Quirks;

/// Vector of #DB.
pub(super) const DB: u8 = 1;

impl Scenario {
    /// Why a host with these quirks cannot show it.
    pub fn not_shown(&self, quirks: Quirks) -> Option<&'static str> {
        self.needs.iter().find_map(|need| match need {
            Need::LdtSs16 if quirks.no_ldt_ss16 => Some(
                "here an iretq to a 16-bit stack segment of an LDT faults, or gives back all of RSP \
                 (vmm probe --only ring3-iretq-ldt --only ring3-iretq-ldt-rsp); scripts/hosts/svm runs the \
                 same command line on an emulated machine",
            ),
            Need::LdtSs16 => None,
        })
    }
}

/// Why a host's #DB cannot be relied on: the probe that says so.
pub(super) fn no_truth(probe: &str) -> String {
    format!("this host's #DB is not where it should be (vmm probe --only {probe})")
}
