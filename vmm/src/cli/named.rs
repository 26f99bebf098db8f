//! Values of the command line that other rooms name: what there is, and a line of help each.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::args::GearArg;
use crate::inject::{Gear, Kind};
use crate::machine::hv_bug::HvBug;

/// What may arrive (`--events`).
pub fn event() -> impl TypedValueParser<Value = Kind> {
    one_of(Kind::ALL.map(|k| (k.name(), k.about()))).try_map(|name| name.parse::<Kind>())
}

/// A hypervisor's bug (`--hv-bug`).
pub fn hv_bug() -> impl TypedValueParser<Value = HvBug> {
    one_of(HvBug::ALL.map(|b| (b.name(), b.about()))).try_map(|name| name.parse::<HvBug>())
}

/// A gear, or all of them (`--gear`).
pub fn gear() -> impl TypedValueParser<Value = GearArg> {
    let all = ("all", "Each in turn; exit 70 if they disagree");
    one_of(Gear::ALL.map(|g| (g.name(), g.about())).into_iter().chain([all])).try_map(|name| match name.as_str() {
        "all" => Ok(GearArg::All),
        one => one.parse().map(GearArg::One),
    })
}

/// One gear (`vmm linux --gear`).
pub fn one_gear() -> impl TypedValueParser<Value = Gear> {
    one_of(Gear::ALL.map(|g| (g.name(), g.about()))).try_map(|name| name.parse::<Gear>())
}

fn one_of(names: impl IntoIterator<Item = (&'static str, &'static str)>) -> PossibleValuesParser {
    PossibleValuesParser::new(names.into_iter().map(|(name, about)| PossibleValue::new(name).help(about)))
}
