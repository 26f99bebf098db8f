//! A machine state, small enough to keep many: what differs from *ready*.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::digest::{Gather, digest};
use super::live::{Liveness, Point};
use super::poison;
use crate::image::Mode;
use crate::inject::Session;
use crate::kvm::VcpuState;
use crate::machine::pv::Pv;
use crate::oracle::{Context, Ghost, Oracle};

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
    fixed: Box<Fixed>,
    words: Vec<Word>,
    capture: Option<Capture>,
}

/// What takes the same room in every state.
#[derive(Clone, Copy)]
struct Fixed {
    vcpu: VcpuState,
    pv: Pv,
    latched: bool,
    ghost: Ghost,
}

/// Most states that are kept for their room.
const SPARES: usize = 1 << 16;

impl Packed {
    /// Bytes it takes, captures (which are shared) apart.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Fixed>() + size_of_val(&*self.words)
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.fixed.vcpu.regs.rip
    }

    /// The stack pointer.
    pub fn rsp(&self) -> u64 {
        self.fixed.vcpu.regs.rsp
    }

    /// A number for the general registers and the flags.
    pub fn registers(&self) -> u64 {
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        self.fixed.vcpu.regs.hash(&mut h);
        h.digest()
    }

    /// B: whether NMIs are blocked.
    pub fn blocked(&self, mode: Mode) -> bool {
        match mode {
            Mode::Native => self.fixed.vcpu.events.nmi.masked != 0,
            Mode::Pv => self.fixed.pv.masked,
        }
    }

    /// P: whether an NMI is latched.
    pub fn pending(&self, mode: Mode) -> bool {
        match mode {
            Mode::Native => self.fixed.latched,
            Mode::Pv => self.fixed.pv.pending,
        }
    }

    /// The CPU's registers and events.
    pub fn vcpu(&self) -> &VcpuState {
        &self.fixed.vcpu
    }

    /// What the oracle remembers.
    pub fn ghost(&self) -> &Ghost {
        &self.fixed.ghost
    }

    /// Whether two states are the same in everything that a hash is taken of.
    pub fn same(&self, other: &Self) -> bool {
        Context::of(&self.fixed.vcpu) == Context::of(&other.fixed.vcpu)
            && (self.fixed.pv, self.fixed.latched) == (other.fixed.pv, other.fixed.latched)
            && self.fixed.vcpu.events == other.fixed.vcpu.events
            && self.fixed.ghost == other.fixed.ghost
            && self.words == other.words
            && self.capture == other.capture
    }
}

/// Packs and unpacks the states of one session.
pub struct Packer {
    /// The writable pages at *ready*, but for what is poisoned.
    ready: Vec<u8>,
    /// The same, as they are.
    clean: Vec<u8>,
    /// Words of the writable pages that are poisoned, by number. Empty: none is.
    poisoned: Vec<bool>,
    /// For each page of RAM, its place among the writable pages.
    page_of: Vec<Option<u32>>,
    /// Words of the state looked at last.
    words: Vec<Word>,
    /// The capture of the state looked at last, with its hash.
    capture: Option<(Capture, u64)>,
    /// The machine's pages are those at *ready* and `words`, no more and no less.
    known: bool,
    /// What the oracle has at hand, as long as it shows this number.
    at_hand: Option<(u64, Capture, u64)>,
    /// Room for what a hash is taken of.
    bytes: Vec<u8>,
    /// Room for states.
    spares: Vec<Packed>,
}

impl Packer {
    /// For a session, which is set back to *ready*.
    pub fn new(session: &mut Session) -> Self {
        session.reset();
        let ready = session.machine().checkpoint().pages;
        let mut page_of = vec![None; session.machine().memory().0.len() / 4096];
        for (i, page) in (0..).zip(session.machine().pages()) {
            page_of.get_mut((*page / 4096) as usize).into_iter().for_each(|place| *place = Some(i));
        }
        Self {
            page_of,
            clean: ready.clone(),
            ready,
            poisoned: Vec::new(),
            words: Vec::with_capacity(512),
            capture: None,
            known: false,
            at_hand: None,
            bytes: Vec::with_capacity(16384),
            spares: Vec::new(),
        }
    }

    /// Poisons the words that are dead where the session stands, which is at *ready*: from now on
    /// states hold a pattern in them for as long as they are dead. Without `live`, none is poisoned.
    /// Returns how many are.
    pub fn poison(&mut self, session: &Session, live: Option<&Liveness>) -> usize {
        self.ready.clone_from(&self.clean);
        self.poisoned.clear();
        (self.known, self.at_hand, self.capture) = (false, None, None);
        let Some(live) = live else { return 0 };
        let (rules, rsp) = (session.rules(), session.machine().state().regs.rsp);
        let here = live.at(Point::of(session), rsp);
        let own = rules.guest.image.declared.stacks.iter().map(|s| &s.range).find(|s| s.start < rsp && rsp <= s.end);
        // At the end the oracle compares what is not scratch, but for what lies below RSP.
        let unused = own.map_or(0..0, |own| own.start..rsp.saturating_sub(RED_ZONE).max(own.start));
        self.poisoned.resize(self.ready.len() / 8, false);
        for index in live.stack_words() {
            let Some(vaddr) = rules.watched.vaddr(index * 8) else { continue };
            let compared = rules.watched.has_any(&(vaddr..vaddr + 8)) && !unused.contains(&vaddr);
            if !compared && !here.is_live(index, Some(vaddr)) {
                self.poisoned[index] = true;
                self.ready[index * 8..index * 8 + 8].copy_from_slice(&poison::of(index).to_le_bytes());
            }
        }
        self.poisoned.iter().filter(|p| **p).count()
    }

    /// Whether a register holds a word's poison: something has read a word that was held for dead.
    pub fn spreads(&self, session: &Session) -> bool {
        let cpu = session.machine().state();
        !self.poisoned.is_empty() && cpu.regs.general().into_iter().any(poison::is_poison)
    }

    /// Looks at the session's state. [`Self::hash`], [`Self::change_since`] and
    /// [`Self::pack`] are then about it.
    pub fn look(&mut self, session: &Session) {
        self.words.clear();
        let ram = session.machine().memory().0;
        for (i, (page, ready)) in session.machine().pages().iter().zip(self.ready.chunks_exact(4096)).enumerate() {
            differences(&ram[*page as usize..*page as usize + 4096], ready, i as u32 * 512, &mut self.words);
        }
        self.known = true;
        self.look_at_capture(session);
    }

    /// The same, where the session was in the state `from` before these words of memory were written,
    /// by their physical addresses over eight.
    pub fn look_after(&mut self, session: &Session, from: &Packed, written: &[u64]) {
        self.words.clone_from(&from.words);
        let ram = session.machine().memory().0;
        for paddr in written.iter().map(|at| *at as usize * 8) {
            let Some(page) = self.page_of.get(paddr / 4096).copied().flatten() else { continue };
            let index = page * 512 + (paddr % 4096 / 8) as u32;
            let (now, ready) = (word(&ram[paddr..]), word(&self.ready[index as usize * 8..]));
            match self.words.binary_search_by_key(&index, |w| w.index) {
                Ok(at) if now == ready => drop(self.words.remove(at)),
                Ok(at) => self.words[at].value = now,
                Err(at) if now != ready => self.words.insert(at, Word { index, value: now }),
                Err(_) => {}
            }
        }
        self.known = true;
        self.look_at_capture(session);
    }

    /// The state's hash, of which `live` leaves out dead words.
    pub fn hash(&mut self, session: &Session, live: Option<&Liveness>) -> u128 {
        self.hash_with(session, |packer, h| {
            match live {
                None => hash_words(&packer.words, h),
                Some(live) => packer.hash_live(session, live, h),
            }
            packer.capture.as_ref().map(|(_, hash)| *hash).hash(h);
        })
    }

    /// A hash of registers, mask, latch and ghost, and of what `memory` feeds.
    fn hash_with(&mut self, session: &Session, memory: impl FnOnce(&Self, &mut Gather)) -> u128 {
        let m = session.machine();
        let mut bytes = std::mem::take(&mut self.bytes);
        let hash = digest(&mut bytes, |h| {
            Context::of(m.state()).hash(h);
            (m.blocked(), m.pending(), m.in_shadow(), m.pv()).hash(h);
            m.state().events.exception.to_come().hash(h);
            session.oracle().ghost.hash(h);
            memory(self, h);
        });
        self.bytes = bytes;
        hash
    }

    fn hash_live(&self, session: &Session, live: &Liveness, h: &mut impl Hasher) {
        let (watched, here) = (&session.rules().watched, live.at(Point::of(session), keep(session)));
        for w in &self.words {
            let index = w.index as usize;
            if here.is_live(index, watched.vaddr(index * 8)) {
                h.write_u32(w.index);
                h.write_u64(w.value);
            }
        }
    }

    /// Episodes share their capture: it is packed anew only where it is another.
    fn look_at_capture(&mut self, session: &Session) {
        let (captured, id) = (session.oracle().captured(), session.oracle().capture_id());
        if captured.is_empty() {
            self.capture = None;
            return;
        }
        match &self.at_hand {
            Some((at, capture, hash)) if *at == id => self.capture = Some((Arc::clone(capture), *hash)),
            _ => {
                let mut words = Vec::new();
                for (i, (now, ready)) in captured.chunks_exact(4096).zip(self.ready.chunks_exact(4096)).enumerate() {
                    differences(now, ready, i as u32 * 512, &mut words);
                }
                let hash = digest(&mut self.bytes, |h| hash_words(&words, h)) as u64;
                let capture = Arc::new(words);
                self.at_hand = Some((id, Arc::clone(&capture), hash));
                self.capture = Some((capture, hash));
            }
        }
    }

    /// Keeps the state, whole, but that a word which `live` holds for dead has its poison again,
    /// where it has one.
    pub fn pack(&mut self, session: &Session, live: Option<&Liveness>) -> Packed {
        let (m, capture) = (session.machine(), self.capture.as_ref().map(|(c, _)| Arc::clone(c)));
        let ghost = &session.oracle().ghost;
        let mut out = self.spares.pop().unwrap_or_else(|| {
            let fixed = Fixed { vcpu: *m.state(), pv: *m.pv(), latched: m.latched(), ghost: *ghost };
            Packed { fixed: Box::new(fixed), words: Vec::with_capacity(self.words.len()), capture: None }
        });
        let fixed = &mut *out.fixed;
        fixed.vcpu.clone_from(m.state());
        fixed.pv.clone_from(m.pv());
        fixed.ghost.clone_from(ghost);
        (fixed.latched, out.capture) = (m.latched(), capture);
        out.words.clear();
        match live.filter(|_| !self.poisoned.is_empty()) {
            None => out.words.extend_from_slice(&self.words),
            Some(live) => {
                let (watched, here) = (&session.rules().watched, live.at(Point::of(session), keep(session)));
                let stays = |w: &&Word| {
                    let index = w.index as usize;
                    !self.poisoned[index] || here.is_live(index, watched.vaddr(index * 8))
                };
                out.words.extend(self.words.iter().filter(stays));
            }
        }
        out
    }

    /// Takes states that are done with, for the room they have.
    pub fn reuse(&mut self, done: impl Iterator<Item = Packed>) {
        let room = SPARES.saturating_sub(self.spares.len());
        self.spares.extend(done.take(room).map(|state| Packed { capture: None, ..state }));
    }

    /// Puts a state back. Of memory, only the words are written that are not as they
    /// should be, where that is known.
    pub fn unpack(&mut self, from: &Packed, session: &mut Session) {
        let (machine, oracle) = session.pieces();
        machine.restore_registers(&from.fixed.vcpu, &from.fixed.pv, from.fixed.latched);
        if std::mem::take(&mut self.known) {
            both(&self.words, &from.words, |index, is, wanted| {
                if is != wanted {
                    let at = index as usize * 8;
                    machine.put_word(index as usize, wanted.unwrap_or_else(|| word(&self.ready[at..at + 8])));
                }
            });
        } else {
            machine.put_pages(&self.ready);
            for w in &from.words {
                machine.put_word(w.index as usize, w.value);
            }
        }
        match &from.capture {
            Some(wanted) => self.put_capture(wanted, &from.fixed.ghost, oracle),
            None => oracle.restore_ghost(&from.fixed.ghost),
        }
    }

    fn put_capture(&mut self, wanted: &Capture, ghost: &Ghost, oracle: &mut Oracle) {
        match &self.at_hand {
            Some((id, have, _)) if *id == oracle.capture_id() => {
                if Arc::ptr_eq(have, wanted) {
                    return oracle.restore_ghost(ghost);
                }
                let old = |w: &Word| (w.index as usize, word(&self.ready[w.index as usize * 8..][..8]));
                oracle.recapture(have.iter().map(old));
                oracle.restore_ghost(ghost);
            }
            _ => oracle.restore(ghost, &self.ready),
        }
        oracle.recapture(wanted.iter().map(|w| (w.index as usize, w.value)));
        let hash = digest(&mut self.bytes, |h| hash_words(wanted, h)) as u64;
        self.at_hand = Some((oracle.capture_id(), Arc::clone(wanted), hash));
    }

    /// The lowest offset in the pages' range that the state looked at has changed.
    pub fn lowest_change(&self, range: &std::ops::Range<usize>) -> Option<usize> {
        let from = self.words.partition_point(|w| (w.index as usize * 8) < range.start);
        let at = |pages: &[u8], w: &Word| word(&pages[w.index as usize * 8..][..8]);
        let changed = |w: &&Word| poison::is_changed(w.value, at(&self.ready, w), at(&self.clean, w));
        self.words[from..].iter().find(changed).map(|w| w.index as usize * 8).filter(|at| *at < range.end)
    }
}

/// The stack pointer of interrupted work, or of the work itself.
pub fn keep(session: &Session) -> u64 {
    session.oracle().ghost.outer.map_or(session.machine().state().regs.rsp, |outer| outer.rsp())
}

/// Bytes below RSP that may be in use (System V).
const RED_ZONE: u64 = 128;

/// Every word that is in either list, with its value in each; `None` is the value at *ready*.
fn both(was: &[Word], is: &[Word], mut each: impl FnMut(u32, Option<u64>, Option<u64>)) {
    let (mut i, mut j) = (0, 0);
    loop {
        match (was.get(i), is.get(j)) {
            (None, None) => return,
            (Some(a), Some(b)) if a.index == b.index => {
                each(a.index, Some(a.value), Some(b.value));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none_or(|b| a.index < b.index) => {
                each(a.index, Some(a.value), None);
                i += 1;
            }
            (_, Some(b)) => {
                each(b.index, None, Some(b.value));
                j += 1;
            }
            (Some(_), None) => unreachable!("the arm before takes it"),
        }
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// Appends the words of a page that are not what they were.
fn differences(now: &[u8], ready: &[u8], first: u32, out: &mut Vec<Word>) {
    // Most pages are unchanged, and most of a changed one: compare by pieces first.
    if now == ready {
        return;
    }
    for (piece, (now, ready)) in now.chunks_exact(256).zip(ready.chunks_exact(256)).enumerate() {
        if now == ready {
            continue;
        }
        for (i, (now, ready)) in now.chunks_exact(8).zip(ready.chunks_exact(8)).enumerate() {
            if now != ready {
                out.push(Word { index: first + (piece * 32 + i) as u32, value: word(now) });
            }
        }
    }
}

fn hash_words(words: &[Word], h: &mut impl Hasher) {
    h.write_usize(words.len());
    for w in words {
        h.write_u32(w.index);
        h.write_u64(w.value);
    }
}
