//! The parts of the XSAVE area beyond x87 and SSE, as CPUID lists them (SDM vol. 1, 13.2).

use std::ops::Range;

use kvm_bindings::CpuId;

use super::Error;

/// CPUID leaf of the state components; sub-leaf n describes component n from 2 on.
const LEAF: u32 = 0xd;
/// XSTATE_BV, by its place among the area's 32-bit words.
const IN_USE: usize = 512 / 4;
/// x87 and SSE.
const LEGACY: u64 = 0b11;

/// Number and place (in 32-bit words of the standard form) of each component.
#[derive(Clone, Debug, Default)]
pub(super) struct Components(Vec<(u32, Range<usize>)>);

impl Components {
    /// Those that this CPUID shows in the user's state (XCR0).
    pub fn of(cpuid: &CpuId) -> Self {
        let user = |e: &&kvm_bindings::kvm_cpuid_entry2| {
            e.function == LEAF && (2..63).contains(&e.index) && e.ecx & 1 == 0 && e.eax > 0
        };
        let place = |e: &kvm_bindings::kvm_cpuid_entry2| {
            let (at, size) = (e.ebx as usize / 4, e.eax as usize / 4);
            (e.index, at..at + size)
        };
        Self(cpuid.as_slice().iter().filter(user).map(place).collect())
    }

    /// Decides in an area what a CPU may do as it likes: a component that is in its initial
    /// state need not be marked as in use (SDM vol. 1, 13.6), and the area holds the initial
    /// values all the same. x87 and SSE are always marked; any other, whose initial values are
    /// zeros, is unless it is all zero.
    ///
    /// An error where XCR0 has a component that does not lie in the area: it is not carried.
    pub fn settle(&self, xcr0: u64, area: &mut [u32]) -> Result<(), Error> {
        let mut known = LEGACY;
        let mut in_use = LEGACY;
        for (number, place) in &self.0 {
            let Some(words) = area.get(place.clone()) else { continue };
            known |= 1 << number;
            in_use |= u64::from(words.iter().any(|w| *w != 0)) << number;
        }
        if xcr0 & !known != 0 {
            return Err(Error::MissingCapability("an XSAVE area of 4096 bytes for all that XCR0 enables"));
        }
        if let Some([low, high]) = area.get_mut(IN_USE..IN_USE + 2) {
            let others = (u64::from(*high) << 32 | u64::from(*low)) & !known;
            let marks = others | in_use;
            (*low, *high) = (marks as u32, (marks >> 32) as u32);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_its_initial_state_is_always_marked_alike() {
        let components = Components(vec![(2, 144..208), (9, 672..674), (18, 700..3000)]);
        let settled = |in_use, avx, pkru| {
            let mut area = vec![0; 1024];
            (area[128], area[144], area[672]) = (in_use, avx, pkru);
            components.settle(0x207, &mut area).unwrap();
            (area[128], area[144], area[672])
        };
        for in_use in [0, 2, 3, 4, 7, 0x200] {
            assert_eq!(settled(in_use, 0, 0), (3, 0, 0), "{in_use}");
        }
        assert_eq!(settled(6, 9, 0), (7, 9, 0));
        assert_eq!(settled(3, 9, 5), (0x207, 9, 5));
        let mut area = vec![0; 1024];
        assert!(components.settle(1 << 18, &mut area).is_err(), "it lies beyond the area");
    }
}
