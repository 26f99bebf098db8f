//! Dead stack words: words that no run from a state reads before it writes them.
//!
//! A nested NMI leaves its frame behind on the NMI stack, and an outer one its saved
//! registers. Nothing ever reads them, but they tell states apart that are the same
//! in all that follows, a hundredfold for each level of nesting. This module finds
//! out which stack words are read, from what was executed.
//!
//! A *point* is an instruction with a stack pointer and the nesting it stands in. Between
//! two points the model of the CPU has executed instructions, and every access of theirs to
//! physical memory is known: operands, frames, descriptors, page tables, code, and what the
//! VMM read of a hypercall's arguments. A word is live at a point if some path of edges from
//! there reads it before every write of it. The hash of a state leaves out the words that
//! are dead at its point.
//!
//! That is sound once the search closes with no edge that the liveness in use had not seen.
//! Two states that differ in dead words only execute the same instructions, since the model
//! computes an instruction from what it reads and from nothing else; what is written is the
//! same; and a word that is live afterwards was live before, or was written. Until then the
//! search is made again. An instruction that the model does not understand counts as
//! reading every word.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::words::Words;
use crate::cpu::Kind;
use crate::inject::Session;
use crate::machine::Accesses;
use crate::oracle::MOST_EXTERNAL;

/// An instruction with a stack pointer, how many NMIs are live, and where the innermost
/// one returns to. All nested NMIs run through the same few instructions: without
/// their way back, each would seem to return to every place that any of them
/// interrupted, and to read what is only read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    rip: u64,
    rsp: u64,
    nmis: u32,
    /// RIP and RSP in the frame of the innermost nested NMI.
    back: (u64, u64),
    /// The same of the events from outside that are no NMIs, the oldest first: their handlers are as
    /// few.
    events: [(u64, u64); MOST_EXTERNAL],
}

impl Point {
    /// Where the session stands.
    pub fn of(session: &Session) -> Self {
        let regs = &session.machine().state().regs;
        let frames = &session.oracle().ghost.frames;
        let back = frames.nested().map_or((0, 0), |f| (f.rip, f.rsp));
        let mut events = [(0, 0); MOST_EXTERNAL];
        for (event, frame) in events.iter_mut().zip(frames.external()) {
            *event = (frame.words.rip, frame.words.rsp);
        }
        Self { rip: regs.rip, rsp: regs.rsp, nmis: frames.nmis(), back, events }
    }
}

/// Points are asked for at each edge. Nobody chooses them to collide.
#[derive(Default)]
struct Stir(u64);

impl Hasher for Stir {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }
}

type ByPoint<T> = HashMap<Point, T, BuildHasherDefault<Stir>>;

struct Edge {
    to: Point,
    /// Words that it may read before it writes them.
    reads: Words,
    /// Words that it always writes whole.
    writes: Words,
}

/// Marks a word of the writable pages that lies in no declared stack.
const NO_STACK: u16 = u16::MAX;

/// What is known of the words of one image's stacks.
pub struct Liveness {
    /// For each word of the writable pages, its number among the stacks' words.
    numbers: Vec<u16>,
    /// For each page of RAM, its place among the writable pages.
    page_of: Vec<Option<u32>>,
    /// `(first address, bytes)` of each declared stack, and whether the oracle compares any
    /// of it: not all is scratch.
    stacks: Vec<(u64, u64, bool)>,
    /// All words of stacks.
    every: Words,
    edges: ByPoint<Vec<Edge>>,
    /// The points of `edges`, in the order they were found.
    order: Vec<Point>,
    live: ByPoint<Words>,
    /// An edge was seen that `live` does not know.
    dirty: bool,
    /// Words that the oracle reads at any time.
    always: Words,
    /// No read counts (`Config::blind`).
    pub blind: bool,
}

impl Liveness {
    /// With nothing seen; `None` where the stacks are too large for it.
    pub fn new(session: &Session) -> Option<Self> {
        let (machine, rules) = (session.machine(), session.rules());
        let mut numbers = vec![NO_STACK; machine.pages().len() * 512];
        let (mut stacks, mut every) = (Vec::new(), Words::NONE);
        let mut next = 0;
        for s in &rules.guest.image.declared.stacks {
            let start = s.range.start & !7;
            stacks.push((start, s.range.end.next_multiple_of(8) - start, rules.watched.has_any(&s.range)));
            for addr in (start..s.range.end).step_by(8) {
                let number = numbers.get_mut(rules.watched.offset(addr)? / 8)?;
                if *number == NO_STACK {
                    if next == Words::MOST {
                        return None;
                    }
                    *number = next as u16;
                    every.set(next);
                    next += 1;
                }
            }
        }
        let mut page_of = vec![None; machine.memory().0.len() / 4096];
        for (i, page) in machine.pages().iter().enumerate() {
            *page_of.get_mut((*page / 4096) as usize)? = Some(i as u32);
        }
        let mut always = Words::NONE;
        for byte in rules.scheme.idle.iter().cloned().flatten() {
            let number = rules.watched.offset(byte).map(|at| numbers[at / 8]);
            number.filter(|n| *n != NO_STACK).iter().for_each(|n| always.set(usize::from(*n)));
        }
        Some(Self {
            numbers,
            page_of,
            stacks,
            every,
            edges: ByPoint::default(),
            order: Vec::new(),
            live: ByPoint::default(),
            dirty: false,
            always,
            blind: false,
        })
    }

    /// The number of the stack word that holds the byte at physical `paddr`.
    fn word(&self, paddr: u64) -> Option<usize> {
        let page = (*self.page_of.get((paddr / 4096) as usize)?)?;
        let number = self.numbers[page as usize * 512 + (paddr % 4096 / 8) as usize];
        (number != NO_STACK).then_some(usize::from(number))
    }

    /// The words that were read before they were written whole, and those that were.
    fn summary(&self, accesses: &Accesses) -> (Words, Words) {
        let (mut reads, mut writes) = (Words::NONE, Words::NONE);
        for a in &accesses.list {
            let (first, last) = (a.paddr, a.paddr + u64::from(a.size) - 1);
            for byte in [first, last] {
                let Some(word) = self.word(byte) else { continue };
                match a.write {
                    true if a.size == 8 && a.paddr % 8 == 0 => writes.set(word),
                    // What is left of the word is carried on, so it is none that is dead.
                    true => {}
                    false if writes.has(word) => {}
                    false => reads.set(word),
                }
                if first / 8 == last / 8 {
                    break;
                }
            }
        }
        if accesses.all {
            reads = self.every;
        }
        if self.blind {
            reads = Words::NONE;
        }
        (reads, writes)
    }

    /// What is live at `point`. `keep` is the stack pointer of interrupted work: at and
    /// above it on its stack the oracle compares memory.
    pub fn at(&self, point: Point, keep: u64) -> Here<'_> {
        let kept = |(start, bytes, watched): &&(u64, u64, bool)| *watched && keep.wrapping_sub(*start) <= *bytes;
        // One that ends where the next begins: the longer rest is kept.
        let rest = |(start, bytes, _): &(u64, u64, bool)| keep & !7..start + bytes;
        let kept = self.stacks.iter().filter(kept).map(rest).max_by_key(|r| r.end - r.start).unwrap_or(0..0);
        Here { all: self, live: self.live.get(&point), kept }
    }

    /// All words of stacks, by their number among those of the writable pages.
    pub fn stack_words(&self) -> impl Iterator<Item = usize> + '_ {
        self.numbers.iter().enumerate().filter(|(_, number)| **number != NO_STACK).map(|(index, _)| index)
    }

    /// Whether the byte at physical `paddr` tells states apart at `point`. `vaddr` says where a
    /// word of the writable pages lies.
    pub fn matters(&self, point: Point, keep: u64, paddr: u64, vaddr: impl Fn(usize) -> Option<u64>) -> bool {
        let page = self.page_of.get((paddr / 4096) as usize).copied().flatten();
        page.is_none_or(|page| {
            let index = page as usize * 512 + (paddr % 4096 / 8) as usize;
            self.at(point, keep).is_live(index, vaddr(index))
        })
    }

    /// Execution went from one point to another, with these accesses.
    pub fn see(&mut self, from: Point, accesses: &Accesses, to: Point) {
        let (reads, writes) = self.summary(accesses);
        self.add(from, Edge { to, reads, writes });
    }

    fn add(&mut self, from: Point, new: Edge) {
        let edges = self.edges.entry(from).or_insert_with(|| {
            self.order.push(from);
            Vec::new()
        });
        match edges.iter_mut().find(|e| e.to == new.to) {
            None => {
                edges.push(new);
                self.dirty = true;
            }
            Some(e) if new.reads.within(&e.reads) && e.writes.within(&new.writes) => {}
            Some(e) => {
                e.reads.union(&new.reads);
                e.writes.intersect(&new.writes);
                self.dirty = true;
            }
        }
    }

    /// Takes over what another has seen.
    pub fn absorb(&mut self, other: &Self) {
        for from in &other.order {
            for e in &other.edges[from] {
                self.add(*from, Edge { to: e.to, reads: e.reads, writes: e.writes });
            }
        }
    }

    /// Uses what `other` has worked out, and knows what it knows.
    pub fn adopt(&mut self, other: &Self) {
        self.absorb(other);
        self.dirty = false;
        self.live.clone_from(&other.live);
    }

    /// Works out what is live from all edges seen. `true` where that adds anything
    /// to what was in use.
    pub fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        let mut live = ByPoint::<Words>::with_capacity_and_hasher(self.edges.len(), Default::default());
        // What is live flows backwards, and points were found forwards.
        loop {
            let mut grew = false;
            for (from, edges) in self.order.iter().rev().filter_map(|p| self.edges.get_key_value(p)) {
                let mut now = live.get(from).copied().unwrap_or(Words::NONE);
                let before = now;
                for e in edges {
                    now.union(&e.reads);
                    if let Some(out) = live.get(&e.to) {
                        now.union(&out.minus(&e.writes));
                    }
                }
                if now != before {
                    live.insert(*from, now);
                    grew = true;
                }
            }
            if !grew {
                break;
            }
        }
        let more = live.iter().any(|(p, words)| !words.within(self.live.get(p).unwrap_or(&Words::NONE)));
        self.live = live;
        more
    }
}

/// What is live at one point.
pub struct Here<'a> {
    all: &'a Liveness,
    live: Option<&'a Words>,
    kept: std::ops::Range<u64>,
}

impl Here<'_> {
    /// Whether word `index` of the writable pages, which lies at virtual `addr`, is live. What
    /// is no stack word is; so is what belongs to the interrupted work's part of a stack.
    pub fn is_live(&self, index: usize, addr: Option<u64>) -> bool {
        let number = self.all.numbers[index];
        number == NO_STACK
            || addr.is_none_or(|addr| self.kept.contains(&addr))
            || self.all.always.has(usize::from(number))
            || self.live.is_some_and(|live| live.has(usize::from(number)))
    }
}

/// The instructions of a chain, as a number: physical addresses and lengths, in order. And what it
/// read besides them.
#[derive(Default)]
pub struct Chain {
    code: xxhash_rust::xxh3::Xxh3Default,
    values: xxhash_rust::xxh3::Xxh3Default,
}

impl Chain {
    /// These were executed next.
    pub fn add(&mut self, accesses: &Accesses) {
        for a in &accesses.list {
            match a.kind {
                Kind::Fetch => self.code.update(&(a.paddr << 8 | u64::from(a.size)).to_le_bytes()),
                _ if a.write => {}
                _ => self.values.update(&a.value.to_le_bytes()),
            }
        }
    }

    /// The number, for an edge that began in these circumstances.
    pub fn number(&self, circumstances: u64) -> u128 {
        let mut h = self.code.clone();
        h.update(&circumstances.to_le_bytes());
        h.digest128()
    }

    /// A number for the values that were read.
    pub fn values(&self) -> u64 {
        self.values.digest()
    }
}
