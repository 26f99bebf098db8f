//! What runs have looked at, apart from them.

use super::origin::{Place, Predicate};
use super::traced::Traced;

/// What some runs from one state have looked at, with what they saw. From another state that
/// shows the same, they execute the same instructions.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// Bits of inputs, with the values of their bytes.
    looked: Vec<(Place, u8, u8)>,
    /// What else was seen of inputs.
    predicates: Vec<Predicate>,
}

impl Looks {
    /// What `trace` has looked at, in a state with these inputs.
    pub fn of(trace: &Traced, inputs: impl Fn(Place) -> u8) -> Self {
        let looked = trace.looked().map(|(place, bits)| (place, bits, inputs(place))).collect();
        Self { looked, predicates: trace.predicates().to_vec() }
    }

    /// The same without the inputs of memory that `left_out` holds, by guest-physical address.
    pub fn without(mut self, left_out: impl Fn(u64) -> bool) -> Self {
        self.looked.retain(|(place, ..)| !matches!(place, Place::Memory(paddr) if left_out(*paddr)));
        self
    }

    /// Whether a state with these inputs shows the same.
    pub fn agree(&self, inputs: impl Fn(Place) -> u8 + Copy) -> bool {
        self.looked.iter().all(|(place, bits, was)| (inputs(*place) ^ was) & bits == 0)
            && self.predicates.iter().all(|p| p.agrees(inputs))
    }

    /// The first of what a state with these inputs shows otherwise, for a log.
    pub fn misfit(&self, inputs: impl Fn(Place) -> u8 + Copy) -> Option<String> {
        let byte = self.looked.iter().find(|(place, bits, was)| (inputs(*place) ^ was) & bits != 0);
        let byte =
            byte.map(|(place, bits, was)| format!("{place:x?} & {bits:#x} was {was:#x}, is {:#x}", inputs(*place)));
        byte.or_else(|| self.predicates.iter().find(|p| !p.agrees(inputs)).map(|p| format!("{p:x?}")))
    }
}

impl std::fmt::Display for Looks {
    /// Registers by name, and how many bytes of memory and comparisons.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, bits, _) in &self.looked {
            if let Place::Register(register, byte) = place {
                write!(f, "{register:?}.{byte}&{bits:#x} ")?;
            }
        }
        let memory = self.looked.iter().filter(|(place, ..)| matches!(place, Place::Memory(_))).count();
        write!(f, "{memory} bytes of memory, {} comparisons", self.predicates.len())
    }
}
