//! A state of the search: the machine at a boundary, and what the oracle remembers.

use std::rc::Rc;

use crate::kvm::{DeepState, DeepValues, VcpuState};
use crate::oracle::Context;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Most deliveries beyond what was handled that states are told apart by. A handler that runs
/// more often than that without a delivery is found all the same.
const MOST_SPARE: u8 = 3;

/// A page of memory that is not as the snapshot has it.
pub struct Page {
    /// Of its bytes without counters.
    pub hash: u128,
    /// The same, without the frame's words, too.
    pub without_frame: u128,
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
    /// The frame's words may still be read: see [`super::frame`].
    pub frame: bool,
}

impl Ghost {
    pub fn arrived(mut self) -> Self {
        (self.latched, self.owed) = (true, true);
        self
    }

    pub fn delivered(mut self) -> Self {
        (self.latched, self.frame) = (false, true);
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
}

impl State {
    /// Equal for equal states, counters and dead words apart.
    pub fn hash(&self) -> u128 {
        use std::hash::Hash;
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Context::of(&self.vcpu).hash(&mut h);
        let events = &self.vcpu.events;
        events.exception.to_come().hash(&mut h);
        (events.interrupt.injected, events.interrupt.shadow).hash(&mut h);
        (events.nmi.injected, events.nmi.pending, events.nmi.masked).hash(&mut h);
        self.ghost.hash(&mut h);
        let d = &self.deep.values;
        (&d.msrs, d.debug, d.st, d.xmm, d.x87, d.last, d.mxcsr).hash(&mut h);
        for (at, page) in &self.pages {
            let hash = if self.ghost.frame { page.hash } else { page.without_frame };
            (at, hash).hash(&mut h);
        }
        h.digest128()
    }
}
