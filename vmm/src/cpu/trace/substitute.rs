//! From one run to the ending of each like it.
//!
//! Two states that agree in the bits that a settled trace looked at, and in its predicates,
//! execute the same instructions, and end in states that differ only where a copy of an input,
//! or an input plus a constant, stands.

use super::super::Cpu;
use super::origin::{BitOrigin, Origin, Place};
use super::{Register, Traced};

impl Traced {
    /// Whether a run from `other` is like the one traced from `first`. What is always looked at
    /// (see [`Register`]) is the caller's to compare.
    pub fn alike(&self, first: impl Fn(Place) -> u8, other: impl Fn(Place) -> u8) -> bool {
        self.looked().all(|(place, bits)| (first(place) ^ other(place)) & bits == 0)
            && self.predicates().iter().all(|p| p.agrees(&other))
    }

    /// The byte that stands where `value` stood in the traced run.
    pub fn resolve(&self, origin: Origin, value: u8, inputs: impl Fn(Place) -> u8) -> u8 {
        match origin {
            Origin::Known | Origin::Derived(_) => value,
            Origin::Copy(place) => inputs(place),
            Origin::Offset { id, byte } => (self.linear(id).value(inputs) >> (8 * (byte & 7))) as u8,
            Origin::Mixed(id) => {
                (0..).zip(self.mixed(id)).fold(0, |out, (n, bit)| out | self.bit(bit, value, n, &inputs))
            }
        }
    }

    fn bit(&self, origin: BitOrigin, value: u8, n: u8, inputs: impl Fn(Place) -> u8) -> u8 {
        match origin {
            BitOrigin::Known | BitOrigin::Derived(_) => value & 1 << n,
            BitOrigin::Copy(place, from) => (inputs(place) >> from & 1) << n,
        }
    }

    /// The CPU's state at the end of a run from `inputs`, where the traced one ended in `end`.
    pub fn substitute_cpu(&self, end: &Cpu, inputs: impl Fn(Place) -> u8) -> Cpu {
        let mut out = *end;
        for register in Register::all() {
            let value = register.value(end).to_le_bytes();
            let mut bytes = [0; 8];
            for (i, (slot, origin)) in bytes.iter_mut().zip(self.register_origins(register)).enumerate() {
                *slot = if register == Register::Flags {
                    (0..8u8).fold(0, |byte, n| byte | self.bit(self.flag(8 * i + usize::from(n)), value[i], n, &inputs))
                } else {
                    self.resolve(origin, value[i], &inputs)
                };
            }
            register.set(&mut out, u64::from_le_bytes(bytes));
        }
        out
    }

    /// What the run wrote, in a machine that began with `inputs`: guest-physical addresses and
    /// bytes. `end` is the traced run's memory at its end, by address.
    pub fn substitute_memory(&self, end: impl Fn(u64) -> u8, inputs: impl Fn(Place) -> u8) -> Vec<(u64, u8)> {
        self.written().map(|(paddr, origin)| (paddr, self.resolve(origin, end(paddr), &inputs))).collect()
    }
}
