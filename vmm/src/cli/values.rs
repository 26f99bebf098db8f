//! The values of options that are words: what clap accepts, lists and explains. The types
//! themselves know nothing of a command line.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::image::Mode;
use crate::inject::{Gear, Kind};
use crate::kernels::{FaultBy, Part};
use crate::machine::Transport;
use crate::machine::hv_bug::HvBug;
use crate::report::Level;

/// A word, its meaning and an explanation.
type Word<T> = (&'static str, T, &'static str);

const MODES: [Word<Mode>; 2] = [
    ("native", Mode::Native, "The CPU, through KVM, owns the NMI mask"),
    ("pv", Mode::Pv, "The VMM owns it; the iret hypercall unmasks where its flag says so"),
];

const TRANSPORTS: [Word<Transport>; 2] = [
    ("port", Transport::Port, "By an OUT, on every host"),
    ("xen", Transport::Xen, "By the stubs that KVM writes into Xen's hypercall page (KVM_CAP_XEN_HVM)"),
];

const PARTS: [Word<Part>; 3] = [
    ("second", Part::Second, "NMI #2, on the path of #1"),
    ("third", Part::Third, "NMI #3, on the path of an NMI #2 nested in #1's handler"),
    ("fault", Part::Fault, "A page fault, on the path of #1; then one with NMI #2 where it returns"),
];

const FAULTS: [Word<FaultBy>; 4] = [
    ("spurious", FaultBy::Spurious, "The instruction raises a page fault that the kernel finds nothing to do about"),
    ("fixup", FaultBy::Fixup, "The handler reads user memory that is not mapped (copy_from_user_nmi)"),
    ("breakpoint", FaultBy::Breakpoint, "A breakpoint comes (#BP), and a debugger answers for it"),
    ("warn", FaultBy::Warn, "The handler comes to a WARN_ONCE that has warned before (#UD)"),
];

static GEARS: [Gear; 3] = Gear::ALL;

const FAULTING_IRETS: [Word<bool>; 2] =
    [("unblocks", true, "It unblocks NMIs (Intel's manual)"), ("keeps", false, "It leaves them blocked")];

/// Accepts these words.
fn words<T: Copy + Send + Sync + 'static>(
    words: impl IntoIterator<Item = Word<T>>,
) -> impl TypedValueParser<Value = T> {
    let words: Vec<_> = words.into_iter().collect();
    let values: Vec<_> = words.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help)).collect();
    PossibleValuesParser::new(values).try_map(move |name| {
        let found = words.iter().find(|(known, ..)| *known == name);
        found.map(|(_, value, _)| *value).ok_or_else(|| format!("unknown word {name:?}"))
    })
}

/// What a fault is.
pub fn fault_by() -> impl TypedValueParser<Value = FaultBy> {
    words(FAULTS)
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

/// `second`, `third` or `fault`.
pub fn part() -> impl TypedValueParser<Value = Part> {
    words(PARTS)
}

/// What may arrive.
pub fn event() -> impl TypedValueParser<Value = Kind> {
    words(Kind::IN_SCENARIOS.map(|kind| (kind.name(), kind, kind.about())))
}

/// A gear, or all of them.
pub fn gears() -> impl TypedValueParser<Value = &'static [Gear]> {
    let each = GEARS.chunks(1).map(|one| (one[0].name(), one, one[0].about()));
    words(each.chain([("all", &GEARS[..], "Each in turn; exit 70 if they disagree")]))
}

/// A gear that a real kernel can be run in.
pub fn one_gear() -> impl TypedValueParser<Value = Gear> {
    words(Gear::ALL.map(|gear| (gear.name(), gear, gear.about())))
}

/// How much of a trace is shown.
pub fn trace() -> impl TypedValueParser<Value = Level> {
    words(Level::ALL.map(|level| (level.name(), level, level.about())))
}

/// Whether an IRET that faults unblocks NMIs.
pub fn faulting_iret() -> impl TypedValueParser<Value = bool> {
    words(FAULTING_IRETS)
}

/// A bug of a hypervisor, by its name.
pub fn hv_bug() -> impl TypedValueParser<Value = HvBug> {
    words(HvBug::ALL.map(|bug| (bug.name(), bug, bug.about())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_replay_lines_and_campaigns() {
        assert!(MODES.iter().all(|(name, mode, _)| mode.name() == *name));
        assert!(TRANSPORTS.iter().all(|(name, transport, _)| transport.to_string() == *name));
        assert!(Gear::ALL.iter().all(|gear| gear.name().parse() == Ok(*gear)));
    }
}
