//! A machine state, small enough to keep many: what differs from *ready*.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::live::{Liveness, Point};
use crate::inject::Session;
use crate::kvm::VcpuState;
use crate::machine::Checkpoint;
use crate::machine::pv::Pv;
use crate::oracle::{Context, Ghost};

/// A 64-bit word of the writable pages that is not what it was at *ready*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    index: u32,
    value: u64,
}

/// The pages at the outermost delivery, shared by all states of that episode.
type Capture = Arc<Vec<Word>>;

/// A complete state of a session: machine and ghost.
#[derive(Clone)]
pub struct Packed {
    vcpu: Box<VcpuState>,
    pv: Pv,
    latched: bool,
    ghost: Box<Ghost>,
    words: Box<[Word]>,
    capture: Option<Capture>,
}

impl Packed {
    /// Bytes it takes, captures (which are shared) apart.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<VcpuState>() + size_of::<Ghost>() + size_of_val(&*self.words)
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.vcpu.regs.rip
    }

    /// Whether two states are the same in everything that a hash is taken of.
    pub fn same(&self, other: &Self) -> bool {
        Context::of(&self.vcpu) == Context::of(&other.vcpu)
            && (self.pv, self.latched) == (other.pv, other.latched)
            && self.vcpu.events == other.vcpu.events
            && self.ghost == other.ghost
            && self.words == other.words
            && self.capture == other.capture
    }
}

/// Packs and unpacks the states of one session.
pub struct Packer {
    /// The writable pages at *ready*, as words.
    ready: Vec<u64>,
    /// Words of the state looked at last.
    words: Vec<Word>,
    /// The capture of the state looked at last, with its hash.
    capture: Option<(Capture, u64)>,
    room: Checkpoint,
    captured: Vec<u8>,
}

impl Packer {
    /// For a session, which is set back to *ready*.
    pub fn new(session: &mut Session) -> Self {
        session.reset();
        let room = session.machine().checkpoint();
        let ready = room.pages.chunks_exact(8).map(word).collect();
        Self { ready, words: Vec::with_capacity(512), capture: None, room, captured: Vec::new() }
    }

    /// Looks at the session's state. [`Self::hash`], [`Self::change_since`] and
    /// [`Self::pack`] are then about it.
    pub fn look(&mut self, session: &Session) {
        self.words.clear();
        let ram = session.machine().memory().0;
        for (page, ready) in session.machine().pages().iter().zip(self.ready.chunks_exact(512).enumerate()) {
            let now = &ram[*page as usize..*page as usize + 4096];
            differences(now, ready.1, ready.0 as u32 * 512, &mut self.words);
        }
        self.look_at_capture(session);
    }

    /// The state's hash, of which `live` leaves out dead words.
    pub fn hash(&self, session: &Session, live: Option<&Liveness>) -> u128 {
        let m = session.machine();
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Context::of(m.state()).hash(&mut h);
        (m.blocked(), m.pending(), m.in_shadow(), m.pv()).hash(&mut h);
        session.oracle().ghost.hash(&mut h);
        match live {
            None => hash_words(&self.words, &mut h),
            Some(live) => self.hash_live(session, live, &mut h),
        }
        self.capture.as_ref().map(|(_, hash)| *hash).hash(&mut h);
        h.digest128()
    }

    fn hash_live(&self, session: &Session, live: &Liveness, h: &mut impl Hasher) {
        let regs = &session.machine().state().regs;
        let keep = session.oracle().ghost.outer.map_or(regs.rsp, |outer| outer.rsp());
        let (watched, point) = (&session.rules().watched, Point::of(session));
        for w in &self.words {
            let addr = watched.vaddr(w.index as usize * 8);
            if addr.is_none_or(|addr| live.is_live(point, addr, keep)) {
                h.write_u32(w.index);
                h.write_u64(w.value);
            }
        }
    }

    /// A hash of which words are not what they were in `before`.
    pub fn change_since(&self, before: &Packed) -> u64 {
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        let (mut a, mut b) = (before.words.iter().peekable(), self.words.iter().peekable());
        loop {
            let changed = match (a.peek(), b.peek()) {
                (None, None) => return h.finish(),
                (Some(x), Some(y)) if x.index == y.index => {
                    let changed = (x.value != y.value).then_some(x.index);
                    a.next();
                    b.next();
                    changed
                }
                (Some(x), y) if y.is_none_or(|y| x.index < y.index) => a.next().map(|w| w.index),
                _ => b.next().map(|w| w.index),
            };
            if let Some(index) = changed {
                h.write_u32(index);
            }
        }
    }

    /// Episodes share their capture: it is packed anew only where it is another.
    fn look_at_capture(&mut self, session: &Session) {
        let captured = session.oracle().captured();
        if captured.is_empty() {
            self.capture = None;
            return;
        }
        if self.capture.is_some() && self.captured == captured {
            return;
        }
        self.captured.clear();
        self.captured.extend_from_slice(captured);
        let mut words = Vec::new();
        for (i, (now, ready)) in captured.chunks_exact(4096).zip(self.ready.chunks_exact(512)).enumerate() {
            differences(now, ready, i as u32 * 512, &mut words);
        }
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        hash_words(&words, &mut h);
        self.capture = Some((Arc::new(words), h.finish()));
    }

    /// Keeps the state, whole.
    pub fn pack(&self, session: &Session) -> Packed {
        let m = session.machine();
        Packed {
            vcpu: Box::new(*m.state()),
            pv: *m.pv(),
            latched: m.latched(),
            ghost: Box::new(session.oracle().ghost),
            words: self.words.as_slice().into(),
            capture: self.capture.as_ref().map(|(c, _)| Arc::clone(c)),
        }
    }

    /// Puts a state back.
    pub fn unpack(&mut self, from: &Packed, session: &mut Session) {
        (self.room.vcpu, self.room.pv, self.room.latched) = (*from.vcpu, from.pv, from.latched);
        fill(&mut self.room.pages, &self.ready, &from.words);
        match &from.capture {
            None => self.capture = None,
            Some(new) if self.capture.as_ref().is_some_and(|(old, _)| Arc::ptr_eq(old, new)) => {}
            Some(new) => {
                self.captured.resize(self.ready.len() * 8, 0);
                fill(&mut self.captured, &self.ready, new);
                let mut h = xxhash_rust::xxh3::Xxh3Default::new();
                hash_words(new, &mut h);
                self.capture = Some((Arc::clone(new), h.finish()));
            }
        }
        let captured: &[u8] = if from.capture.is_some() { &self.captured } else { &[] };
        session.put(&self.room, &from.ghost, captured);
    }

    /// The lowest offset in the pages' range that the state looked at has changed.
    pub fn lowest_change(&self, range: &std::ops::Range<usize>) -> Option<usize> {
        let from = self.words.partition_point(|w| (w.index as usize * 8) < range.start);
        self.words.get(from).map(|w| w.index as usize * 8).filter(|at| *at < range.end)
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// Appends the words of a page that are not what they were.
fn differences(now: &[u8], ready: &[u64], first: u32, out: &mut Vec<Word>) {
    // Most of a page is unchanged: compare by lines of eight words first.
    for (line, (now, ready)) in now.chunks_exact(64).zip(ready.chunks_exact(8)).enumerate() {
        let now: [u64; 8] = std::array::from_fn(|i| word(&now[8 * i..8 * i + 8]));
        if now.iter().zip(ready).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0 {
            continue;
        }
        for (i, (value, old)) in now.into_iter().zip(ready).enumerate() {
            if value != *old {
                out.push(Word { index: first + (line * 8 + i) as u32, value });
            }
        }
    }
}

fn fill(pages: &mut [u8], ready: &[u64], words: &[Word]) {
    for (to, from) in pages.chunks_exact_mut(8).zip(ready) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    for w in words {
        let at = w.index as usize * 8;
        pages[at..at + 8].copy_from_slice(&w.value.to_le_bytes());
    }
}

fn hash_words(words: &[Word], h: &mut impl Hasher) {
    h.write_usize(words.len());
    for w in words {
        h.write_u32(w.index);
        h.write_u64(w.value);
    }
}
