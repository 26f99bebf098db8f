//! What can be wrong with a request, as far as a kernel's symbols alone show it: so that it
//! is said before the kernel boots.

use super::error::LabError;
use super::kernel::Kernel;
use super::pc::KernelSymbols;
use super::site::{Site, in_text, resolve};
use crate::inject::{Event, Kind, Schedule};

/// Whether there can be a site of this name.
pub fn site(text: &str, kernel: &dyn Kernel, symbols: &KernelSymbols) -> Result<(), LabError> {
    match text {
        name if Site::named(name, kernel).is_some() => Ok(()),
        "" => Ok(kernel.default_site().map(|_| ())?),
        place => resolve(place, symbols).and_then(|at| in_text(place, at, symbols)).map_err(LabError::Site),
    }
}

/// Whether this can be a schedule.
pub fn schedule(text: &str, symbols: &KernelSymbols) -> Result<(), LabError> {
    let place = |place: &str| match place {
        name if Site::is_name(name) => Ok(0),
        place => {
            let at = resolve(place, symbols)?;
            in_text(place, at, symbols).map(|()| at)
        }
    };
    let schedule = Schedule::parse_for_kernel(text, place)?;
    match schedule.0.first() {
        Some(Event { kind: Kind::Fault, .. }) => Err(LabError::FaultFirst(text.to_owned())),
        _ => Ok(()),
    }
}

/// Whether this can be a place where a handler faults.
pub fn fault(place: &str, symbols: &KernelSymbols) -> Result<(), LabError> {
    schedule(&format!("nmi@user fault@{place}"), symbols)
}

/// A change of a kernel's code.
pub struct Mutation {
    /// The virtual address of its first byte.
    pub addr: u64,
    /// What stands there then.
    pub bytes: Vec<u8>,
}

/// Reads a mutation: `label+off=90 90`, or without spaces.
pub fn mutation(text: &str, symbols: &KernelSymbols) -> Result<Mutation, LabError> {
    let bad = |why: &str| LabError::Mutation(format!("{text:?}: {why}; a mutation is written label+0x10=9090"));
    let (place, hex) = text.split_once('=').ok_or_else(|| bad("no ="))?;
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(bad("bytes are pairs of hexadecimal digits"));
    }
    let pair = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(pair).collect();
    let bytes = bytes.ok_or_else(|| bad("bytes are hexadecimal"))?;
    let addr = resolve(place, symbols).map_err(|e| bad(&e.to_string()))?;
    Ok(Mutation { addr, bytes })
}
