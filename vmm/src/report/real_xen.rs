//! What an NMI costs the real Xen, as comparisons show it beside the played schemes.

use super::plain::plain;
use crate::kernels::Costs;

/// What the table of the real Xen shows of one run.
pub(super) fn real_row(costs: &Costs) -> [String; 8] {
    let Costs { kernel, site, instructions, blocked, .. } = costs;
    let (own, call) = (costs.in_kernel(), costs.last_call());
    [
        plain(&kernel.version).into_owned(),
        plain(&kernel.cmdline).into_owned(),
        plain(site).into_owned(),
        own.to_string(),
        (instructions - own).to_string(),
        call.map_or("none".into(), |n| n.to_string()),
        costs.entries().to_string(),
        blocked.to_string(),
    ]
}

/// The header of that table.
pub(super) const REAL: [&str; 8] =
    ["who", "words", "NMI at", "in Xen", "in its guest", "last iret hypercall", "entries of Xen", "blocked"];
