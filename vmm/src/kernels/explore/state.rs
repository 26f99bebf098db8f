//! A state of the search: the machine at a boundary, and what the oracle remembers.

use std::hash::Hash;
use std::rc::Rc;

use super::bytes::PAGE;
use super::nmi_stack::Dead;
use crate::cpu::{Cpu, Debug, Msrs, Sregs, msr};
use crate::kernels::fault_by::Away;
use crate::kvm::{DeepState, DeepValues, VcpuState};
use crate::oracle::Context;

/// Most deliveries beyond what was handled that states are told apart by. A handler that runs
/// more often than that without a delivery is found all the same.
const MOST_SPARE: u8 = 3;

/// A page of memory that is not as the snapshot has it.
pub struct Page {
    /// Of its bytes without counters, and without what is dead of the NMI stack, by [`Dead`].
    pub hashes: [u128; 3],
    pub bytes: Box<[u8; PAGE]>,
}

/// What the vCPU holds beyond registers and events.
pub struct Deep {
    pub values: DeepValues,
    pub state: DeepState,
}

/// What the oracle remembers of the way here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// P: an NMI waits until NMIs are unblocked.
    pub latched: bool,
    /// An NMI has arrived after which the kernel has not counted one (I3).
    pub owed: bool,
    /// NMIs that were delivered beyond those counted, up to [`MOST_SPARE`] (I4).
    pub spare: u8,
    /// The handler has faulted at its place, and has not gone on from there yet.
    pub faulted: bool,
    /// What of the NMI stack does not matter any more.
    pub dead: Dead,
}

impl Ghost {
    pub fn arrived(mut self) -> Self {
        (self.latched, self.owed) = (true, true);
        self
    }

    pub fn delivered(mut self) -> Self {
        (self.latched, self.dead) = (false, Dead::Nothing);
        self.spare = (self.spare + 1).min(MOST_SPARE);
        self
    }

    /// The kernel's count has grown by `by`; `None` where it handles what was not delivered.
    pub fn counted(mut self, by: u32) -> Option<Self> {
        if by > 0 {
            self.owed = false;
            self.spare = u8::try_from(by).ok().and_then(|by| self.spare.checked_sub(by))?;
        }
        Some(self)
    }
}

/// A whole state.
#[derive(Clone)]
pub struct State {
    pub vcpu: VcpuState,
    pub deep: Rc<Deep>,
    /// Pages that differ from the snapshot, by guest-physical address, ascending.
    pub pages: Vec<(u64, Rc<Page>)>,
    pub ghost: Ghost,
    pub faults: Faults,
}

/// What the VMM has still to do for faults that handlers have taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// The detours that execution is on.
    pub away: Vec<Away>,
    /// Breakpoints that are to be answered for.
    pub breakpoints: u32,
}

impl State {
    /// Its CPU, as the model has it.
    pub fn cpu(&self) -> Cpu {
        let values = &self.deep.values;
        let of = |number| values.msrs.iter().rfind(|(index, _)| *index == number).map_or(0, |(_, value)| *value);
        let [a, b, c, d, dr6, dr7] = values.debug;
        Cpu {
            regs: self.vcpu.regs,
            sregs: self.vcpu.sregs,
            events: self.vcpu.events,
            kernel_gs: of(msr::KERNEL_GS_BASE),
            debug: Debug { addresses: [a, b, c, d], dr6, dr7 },
            msrs: Msrs { values: Msrs::NUMBERS.map(of) },
            undefined: 0,
        }
    }

    /// A page that differs from the snapshot.
    pub fn page(&self, at: u64) -> Option<&Rc<Page>> {
        self.pages.binary_search_by_key(&at, |(at, _)| *at).ok().map(|i| &self.pages[i].1)
    }

    /// Equal for equal states, counters and dead words apart.
    pub fn hash(&self) -> u128 {
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Context::of(&self.vcpu).hash(&mut h);
        self.hash_the_rest(&mut h);
        for (at, page) in &self.pages {
            (at, page.hashes[self.ghost.dead as usize]).hash(&mut h);
        }
        h.digest128()
    }

    /// Equal where everything is equal but memory, and the registers that a
    /// [`crate::cpu::Traced`] follows.
    pub fn key(&self) -> u128 {
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Sregs { cr2: 0, ..self.vcpu.sregs }.hash(&mut h);
        self.hash_the_rest(&mut h);
        h.digest128()
    }

    fn hash_the_rest(&self, mut h: &mut xxhash_rust::xxh3::Xxh3Default) {
        let events = &self.vcpu.events;
        events.exception.to_come().hash(&mut h);
        (events.interrupt.injected, events.interrupt.shadow).hash(&mut h);
        (events.nmi.injected, events.nmi.pending, events.nmi.masked).hash(&mut h);
        (self.ghost, &self.faults).hash(&mut h);
        let d = &self.deep.values;
        (&d.msrs, d.debug, d.st, d.xmm, d.x87, d.last, d.mxcsr).hash(&mut h);
    }
}
