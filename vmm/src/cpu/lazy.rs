//! State that only a few classes of instructions can change: debug registers, FPU and
//! vector registers, most model-specific registers.
//!
//! Reading it from a vCPU costs an ioctl a part, so it is carried by number: states that
//! are equal have the same [`LazyId`], and a guest that executes no such instruction stays
//! at the one that it had at *ready*.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::{Debug, Msrs};

/// Classes of instructions by the lazy state that they touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Classes {
    /// MOV to or from a debug register.
    pub debug: bool,
    /// x87, MMX, SSE, AVX and the instructions that save and restore their state; XSETBV.
    pub vector: bool,
    /// WRMSR to one of [`Msrs::NUMBERS`].
    pub msr: bool,
}

impl Classes {
    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether it holds all of `other`.
    pub fn has(self, other: Self) -> bool {
        self.or(other) == self
    }

    /// Those of either.
    pub fn or(self, other: Self) -> Self {
        Self { debug: self.debug | other.debug, vector: self.vector | other.vector, msr: self.msr | other.msr }
    }
}

/// The whole lazy state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lazy {
    /// Debug registers.
    pub debug: Debug,
    /// Model-specific registers. One that the CPU has not can hold nothing, and is 0.
    pub msrs: Msrs,
    /// XCR0.
    pub xcr0: u64,
    /// The XSAVE area in its standard form (SDM vol. 1, 13.4), by 32-bit words.
    pub vector: Vec<u32>,
}

/// A register that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub register: String,
    /// What it was.
    pub was: u64,
    /// What it is.
    pub is: u64,
}

impl Difference {
    /// One that was found.
    pub fn of(register: impl Into<String>, was: u64, is: u64) -> Option<Self> {
        Some(Self { register: register.into(), was, is })
    }
}

impl Lazy {
    /// The first register that differs; of the vector state the first word that does.
    pub fn difference(&self, now: &Self) -> Option<Difference> {
        let debug = |d: &Debug| {
            let [a, b, c, e] = d.addresses;
            [("DR0", a), ("DR1", b), ("DR2", c), ("DR3", e), ("DR6", d.dr6), ("DR7", d.dr7)]
        };
        for ((name, was), (_, is)) in debug(&self.debug).into_iter().zip(debug(&now.debug)) {
            if was != is {
                return Difference::of(name, was, is);
            }
        }
        for ((number, was), is) in Msrs::NUMBERS.iter().zip(self.msrs.values).zip(now.msrs.values) {
            if was != is {
                return Difference::of(format!("MSR {number:#x}"), was, is);
            }
        }
        if self.xcr0 != now.xcr0 {
            return Difference::of("XCR0", self.xcr0, now.xcr0);
        }
        if self.vector == now.vector {
            return None;
        }
        let at = self.vector.iter().zip(&now.vector).position(|(a, b)| a != b);
        let at = at.unwrap_or(self.vector.len().min(now.vector.len()));
        let word = |v: &[u32]| v.get(at).copied().map_or(0, u64::from);
        Difference::of(vector_name(at * 4), word(&self.vector), word(&now.vector))
    }
}

/// What lies at a byte of the XSAVE area.
fn vector_name(byte: usize) -> String {
    match byte {
        0..24 => format!("x87 state, byte {byte}"),
        24..28 => "MXCSR".into(),
        32..160 => format!("ST{} (or MM)", (byte - 32) / 16),
        160..416 => format!("XMM{}", (byte - 160) / 16),
        _ => format!("XSAVE area, byte {byte:#x}"),
    }
}

/// A number for a lazy state: equal states have equal numbers, in all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LazyId(u32);

#[derive(Default)]
struct Known {
    states: Vec<Arc<Lazy>>,
    numbers: HashMap<Arc<Lazy>, u32>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(|| {
    let mut known = Known::default();
    known.add(Lazy::default());
    Mutex::new(known)
});

impl Known {
    fn add(&mut self, state: Lazy) -> u32 {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let (state, number) = (Arc::new(state), self.states.len() as u32);
        self.states.push(Arc::clone(&state));
        self.numbers.insert(state, number);
        number
    }
}

impl LazyId {
    /// The number of `state`.
    pub fn of(state: Lazy) -> Self {
        Self(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).add(state))
    }

    /// The state of this number.
    pub fn state(self) -> Arc<Lazy> {
        // Numbers are made by `of` alone, and nothing is ever removed.
        Arc::clone(&KNOWN.lock().unwrap_or_else(PoisonError::into_inner).states[self.0 as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_states_have_one_number_and_a_difference_has_a_name() {
        let one = Lazy { vector: vec![0; 200], ..Lazy::default() };
        let mut other = one.clone();
        other.vector[40] = 7;
        assert_eq!(LazyId::of(one.clone()), LazyId::of(one.clone()));
        assert_ne!(LazyId::of(one.clone()), LazyId::of(other.clone()));
        assert_eq!(*LazyId::of(other.clone()).state(), other);
        assert_eq!(one.difference(&other), Difference::of("XMM0", 0, 7));
        other.debug.dr7 = 0x402;
        assert_eq!(one.difference(&other), Difference::of("DR7", 0x400, 0x402));
        assert_eq!(one.difference(&one), None);
    }
}
