//! The values of options that are words: what clap accepts, lists and explains. The types
//! themselves know nothing of a command line.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::image::Mode;
use crate::inject::Gear;
use crate::linux::Part;
use crate::machine::Transport;
use crate::machine::fault::Fault;

/// Words, each with its meaning and an explanation.
type Words<T> = &'static [(&'static str, T, &'static str)];

const MODES: Words<Mode> = &[
    ("native", Mode::Native, "The CPU, through KVM, owns the NMI mask"),
    ("pv", Mode::Pv, "The VMM owns it; the iret hypercall unmasks where its flag says so"),
];

const TRANSPORTS: Words<Transport> = &[
    ("port", Transport::Port, "By an OUT, on every host"),
    ("xen", Transport::Xen, "By the stubs that KVM writes into Xen's hypercall page (KVM_CAP_XEN_HVM)"),
];

const PARTS: Words<Part> = &[
    ("second", Part::Second, "NMI #2, on the path of #1"),
    ("third", Part::Third, "NMI #3, on the path of an NMI #2 nested in #1's handler"),
];

const ARM: (&str, &[Gear], &str) =
    ("arm", &[Gear::Arm], "Run freely to each boundary and raise a real NMI there: the reference");
const STEP: (&str, &[Gear], &str) = ("step", &[Gear::Step], "One instruction at a time");
const JUMP: (&str, &[Gear], &str) =
    ("jump", &[Gear::Jump], "From a checkpoint at the boundary, with the NMI pending in the vCPU events");
const GEARS: Words<&'static [Gear]> =
    &[ARM, STEP, JUMP, ("all", &[Gear::Arm, Gear::Step, Gear::Jump], "Each in turn; exit 70 if they disagree")];
/// A real kernel is never stepped to its events.
const LINUX_GEARS: Words<&'static [Gear]> = &[ARM, JUMP];

const FAULTING_IRETS: Words<bool> =
    &[("unblocks", true, "It unblocks NMIs (Intel's manual)"), ("keeps", false, "It leaves them blocked")];

const BUGS: Words<Fault> = &[
    (
        "iret-keeps-blocked",
        Fault::IretKeepsBlocked,
        "A successful iretq leaves NMIs blocked (KVM 801806d956c2: the emulated IRET)",
    ),
    (
        "iret-unblocks-early",
        Fault::IretUnblocksEarly,
        "NMIs are unblocked before the iretq executes (KVM 0be9c7a89f75: IRET faulted and is run again)",
    ),
    (
        "second-nmi-lost",
        Fault::SecondNmiLost,
        "An NMI at the handler's first instruction collapses into the one just delivered (KVM 7460fb4a3400)",
    ),
    (
        "inverted-test-and-set",
        Fault::InvertedTestAndSet,
        "Mode pv: an NMI is kept only where one is pending already (Xen eb9ec1a8a8cc: inverted test-and-set)",
    ),
    (
        "failed-iret-leaves-blocked",
        Fault::FailedIretLeavesBlocked,
        "An iretq that faults leaves NMIs blocked, whatever --faulting-iret says (Xen 99edc6c2a0f5: faulting ERETU)",
    ),
    (
        "nmi-window-sets-tf",
        Fault::NmiWindowSetsTf,
        "An NMI that arrives at CPL0 while NMIs are open waits for one instruction, which runs with the hypervisor's \
         TF where the guest can see it (KVM f86368493ec0: pending between two tests)",
    ),
];

/// Accepts these words.
fn words<T: Copy + Send + Sync + 'static>(words: Words<T>) -> impl TypedValueParser<Value = T> {
    let values = words.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values).try_map(move |name| {
        let found = words.iter().find(|(known, ..)| *known == name);
        found.map(|(_, value, _)| *value).ok_or_else(|| format!("unknown word {name:?}"))
    })
}

/// Most threads that a command starts, each with machines of its own.
const MOST_JOBS: i64 = 256;

/// How many threads.
pub fn jobs() -> impl TypedValueParser<Value = u16> {
    clap::value_parser!(u16).range(1..=MOST_JOBS)
}

/// `native` or `pv`.
pub fn mode() -> impl TypedValueParser<Value = Mode> {
    words(MODES)
}

/// `port` or `xen`.
pub fn transport() -> impl TypedValueParser<Value = Transport> {
    words(TRANSPORTS)
}

/// `second` or `third`.
pub fn part() -> impl TypedValueParser<Value = Part> {
    words(PARTS)
}

/// A gear, or all of them.
pub fn gears() -> impl TypedValueParser<Value = &'static [Gear]> {
    words(GEARS)
}

/// A gear that a real kernel can be run in.
pub fn linux_gear() -> impl TypedValueParser<Value = &'static [Gear]> {
    words(LINUX_GEARS)
}

/// Whether an IRET that faults unblocks NMIs.
pub fn faulting_iret() -> impl TypedValueParser<Value = bool> {
    words(FAULTING_IRETS)
}

/// A bug of a hypervisor, by its name.
pub fn bug() -> impl TypedValueParser<Value = Fault> {
    words(BUGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_replay_lines_and_campaigns() {
        assert!(BUGS.iter().map(|(_, bug, _)| *bug).eq(Fault::ALL));
        assert!(BUGS.iter().all(|(name, bug, _)| Fault::named(name) == Some(*bug)));
        assert!(MODES.iter().all(|(name, mode, _)| mode.name() == *name));
        assert!(TRANSPORTS.iter().all(|(name, transport, _)| transport.to_string() == *name));
    }
}
