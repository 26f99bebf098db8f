//! The values of options that are words: what clap accepts, lists and explains. The types
//! themselves know nothing of a command line.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::image::Mode;
use crate::inject::{Gear, Kind, UnknownGear};
use crate::kernels::Part;
use crate::machine::Transport;
use crate::machine::hv_bug::HvBug;

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

const FAULTING_IRETS: Words<bool> =
    &[("unblocks", true, "It unblocks NMIs (Intel's manual)"), ("keeps", false, "It leaves them blocked")];

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

/// What may arrive.
pub fn event() -> impl TypedValueParser<Value = Kind> {
    one_of(Kind::ALL.map(|k| (k.name(), k.about()))).try_map(|name| name.parse::<Kind>())
}

/// A bug of a hypervisor.
pub fn hv_bug() -> impl TypedValueParser<Value = HvBug> {
    one_of(HvBug::ALL.map(|b| (b.name(), b.about()))).try_map(|name| name.parse::<HvBug>())
}

/// A gear, or all of them.
pub fn gears() -> impl TypedValueParser<Value = &'static [Gear]> {
    let all = ("all", "Each in turn; exit 70 if they disagree");
    one_of(Gear::ALL.map(|g| (g.name(), g.about())).into_iter().chain([all])).try_map(|name| gear_list(&name))
}

/// A gear that a real kernel can be run in: it is never stepped to its events.
pub fn linux_gear() -> impl TypedValueParser<Value = &'static [Gear]> {
    one_of([Gear::Arm, Gear::Jump].map(|g| (g.name(), g.about()))).try_map(|name| gear_list(&name))
}

fn gear_list(name: &str) -> Result<&'static [Gear], UnknownGear> {
    if name == "all" {
        return Ok(&Gear::ALL);
    }
    Ok(match name.parse()? {
        Gear::Arm => &[Gear::Arm],
        Gear::Step => &[Gear::Step],
        Gear::Jump => &[Gear::Jump],
    })
}

fn one_of(names: impl IntoIterator<Item = (&'static str, &'static str)>) -> PossibleValuesParser {
    PossibleValuesParser::new(names.into_iter().map(|(name, about)| PossibleValue::new(name).help(about)))
}

/// Whether an IRET that faults unblocks NMIs.
pub fn faulting_iret() -> impl TypedValueParser<Value = bool> {
    words(FAULTING_IRETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_replay_lines_and_campaigns() {
        assert!(MODES.iter().all(|(name, mode, _)| mode.name() == *name));
        assert!(TRANSPORTS.iter().all(|(name, transport, _)| transport.to_string() == *name));
    }
}
