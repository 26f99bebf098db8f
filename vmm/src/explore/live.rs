//! Dead stack words: bytes that no run from a state reads before it writes them.
//!
//! A nested NMI leaves its frame behind on the NMI stack, and an outer one its saved
//! registers. Nothing ever reads them, but they tell states apart that are the same
//! in all that follows, a hundredfold for each level of nesting. This module finds
//! out which stack words are read, from what was executed:
//!
//! A *point* is an instruction with a stack pointer and the nesting it stands in. For every instruction that the
//! search executes, the stack words it reads and writes are decoded and kept as an
//! edge between points; so are deliveries and faults, which write frames. A word is
//! live at a point if some path of edges from there reads it before every write of
//! it. The hash of a state leaves out the words that are dead at its point.
//!
//! That is sound once the search closes with no edge that the liveness in use had not
//! seen: then every read that was executed was of a live word, so states that differ
//! in dead words only have equal futures. Until then the search is run again. Chains
//! that were run freely are stepped once for each way they begin, end and change
//! memory, in a search by episodes once for each footprint (`footprint.rs`); the fully
//! stepped search leaves nothing to that.

use std::collections::HashMap;

use guest::abi::Frame;
use iced_x86::{InstructionInfoFactory, OpAccess, Register};

use super::operands::beyond_operands;
use crate::image::Mode;
use crate::image::declare::has_error_code;
use crate::inject::Session;
use crate::oracle::Rules;

/// Stack words that can be told apart: 32 KiB of declared stacks.
const BLOCKS: usize = 64;

/// A set of stack words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words([u64; BLOCKS]);

impl Words {
    const NONE: Self = Self([0; BLOCKS]);

    fn set(&mut self, word: usize) {
        self.0[word / 64] |= 1 << (word % 64);
    }

    fn has(&self, word: usize) -> bool {
        self.0[word / 64] >> (word % 64) & 1 != 0
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, bits)| **bits != 0)
            .flat_map(|(i, bits)| (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| i * 64 + bit))
    }

    fn union(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    fn minus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    fn within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }
}

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
}

impl Point {
    /// Where the session stands.
    pub fn of(session: &Session) -> Self {
        let regs = &session.machine().state().regs;
        let frames = &session.oracle().ghost.frames;
        let back = frames.nested().map_or((0, 0), |f| (f.rip, f.rsp));
        Self { rip: regs.rip, rsp: regs.rsp, nmis: frames.nmis(), back }
    }
}

struct Edge {
    to: Point,
    /// Words that it may read.
    reads: Words,
    /// Words that it always writes whole.
    writes: Words,
}

/// What is known of the words of one image's stacks.
pub struct Liveness {
    /// `(first address, bytes, first word's number)` of each declared stack.
    stacks: Vec<(u64, u64, usize)>,
    /// Those of which the oracle compares memory: not all is scratch.
    watched: Vec<bool>,
    edges: HashMap<Point, Vec<Edge>>,
    /// The points of `edges`, in the order they were found.
    order: Vec<Point>,
    live: HashMap<Point, Words>,
    /// Live at the delivery of an NMI that finds none live, wherever it comes.
    entered: Words,
    /// An edge was seen that `live` does not know.
    dirty: bool,
    info: InstructionInfoFactory,
    /// Words that the oracle reads at any time.
    always: Words,
    /// Since [`Self::begin_chain`]: words that were read before they were written, and those
    /// that were written.
    read: Words,
    written: Words,
    /// Only what an NMI's own code reads counts, not what the code that it returns to does.
    episodes: bool,
}

impl Liveness {
    /// With nothing seen; `None` where the stacks are too large for it. With `episodes` each
    /// interruption is looked at by itself: at a point with an NMI live, words that only
    /// the interrupted code reads are not live.
    pub fn new(rules: &Rules, episodes: bool) -> Option<Self> {
        let mut next = 0;
        let (mut stacks, mut watched) = (Vec::new(), Vec::new());
        for s in &rules.guest.image.declared.stacks {
            let start = s.range.start & !7;
            let bytes = s.range.end.next_multiple_of(8) - start;
            stacks.push((start, bytes, next));
            watched.push(rules.watched.has_any(&s.range));
            next += bytes as usize / 8;
        }
        let mut out = Self {
            stacks,
            watched,
            edges: HashMap::new(),
            order: Vec::new(),
            live: HashMap::new(),
            entered: Words::NONE,
            dirty: false,
            info: InstructionInfoFactory::new(),
            always: Words::NONE,
            read: Words::NONE,
            written: Words::NONE,
            episodes,
        };
        if next > BLOCKS * 64 {
            return None;
        }
        for byte in rules.scheme.idle.iter().cloned().flatten() {
            if let Some(word) = out.word(byte) {
                out.always.set(word);
            }
        }
        Some(out)
    }

    /// A chain begins: what it reads is to be known.
    pub fn begin_chain(&mut self) {
        (self.read, self.written) = (self.always, Words::NONE);
    }

    /// Addresses of stack words that the chain read before it wrote them.
    pub fn read_by_chain(&self) -> impl Iterator<Item = u64> {
        self.read.iter().filter_map(|word| {
            let (start, _, first) = self.stacks.iter().rfind(|(_, _, first)| *first <= word)?;
            Some(start + (word - first) as u64 * 8)
        })
    }

    /// Whether `addr` lies in a declared stack.
    pub fn is_stack(&self, addr: u64) -> bool {
        self.word(addr).is_some()
    }

    /// Whether an NMI that finds none live may read the word at `addr` before it writes it.
    pub fn is_entered_with(&self, addr: u64) -> bool {
        self.word(addr).is_some_and(|word| self.always.has(word) || self.entered.has(word))
    }

    /// Whether it may read any word of `range` so.
    pub fn is_entered_with_any(&self, range: &std::ops::Range<u64>) -> bool {
        range.clone().step_by(8).any(|addr| self.word(addr).is_some_and(|word| self.entered.has(word)))
    }

    /// The number of the stack word at `addr`.
    fn word(&self, addr: u64) -> Option<usize> {
        let (start, _, first) = self.stacks.iter().find(|(start, bytes, _)| addr.wrapping_sub(*start) < *bytes)?;
        Some(first + (addr - start) as usize / 8)
    }

    fn range(&self, from: u64, bytes: u64, whole: bool) -> Words {
        let mut out = Words::NONE;
        let (mut at, end) =
            if whole { (from.next_multiple_of(8), (from + bytes) & !7) } else { (from & !7, from + bytes) };
        while at < end {
            if let Some(word) = self.word(at) {
                out.set(word);
            }
            at += 8;
        }
        out
    }

    /// What is live at `point`. `keep` is the stack pointer of interrupted work: at and
    /// above it on its stack the oracle compares memory.
    pub fn at(&self, point: Point, keep: u64) -> Here<'_> {
        let kept = |((start, bytes, _), watched): &(&(u64, u64, usize), &bool)| {
            **watched && keep.wrapping_sub(*start) <= *bytes
        };
        // One that ends where the next begins: the longer rest is kept.
        let rest = |((start, bytes, _), _): (&(u64, u64, usize), &bool)| keep & !7..start + bytes;
        let kept = self
            .stacks
            .iter()
            .zip(&self.watched)
            .filter(kept)
            .map(rest)
            .max_by_key(|r| r.end - r.start)
            .unwrap_or(0..0);
        Here { all: self, live: self.live.get(&point), kept }
    }

    /// Reads and writes of the instruction that comes next, before it is executed.
    pub fn before(&mut self, session: &Session) -> Access {
        let m = session.machine();
        let state = m.state();
        let mut out = Access { from: Point::of(session), reads: Words::NONE, writes: Words::NONE, back_to: None };
        let Some(d) = m.next_instruction() else { return out };
        let info = self.info.info(&d.insn);
        let mut uses: [(u64, u64, bool, bool); 8] = [(0, 0, false, false); 8];
        let mut n = 0;
        for used in info.used_memory() {
            let addr = used.virtual_address(0, |reg, _, _| match reg {
                Register::GS => Some(state.sregs.gs.base),
                Register::FS => Some(state.sregs.fs.base),
                reg if reg.is_segment_register() => Some(0),
                reg => crate::machine::register(&state.regs, reg),
            });
            let (Some(addr), true) = (addr, n < uses.len()) else { continue };
            let reads = !matches!(
                used.access(),
                OpAccess::None | OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess
            );
            let writes = matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite);
            uses[n] = (addr, used.memory_size().size() as u64, reads, writes);
            n += 1;
        }
        for (addr, bytes, reads, writes) in &uses[..n] {
            if *reads {
                out.reads.union(&self.range(*addr, *bytes, false));
            }
            if *writes {
                out.writes.union(&self.range(*addr, *bytes, true));
            }
        }
        if let Some((addr, bytes)) = beyond_operands(&d, &state.regs) {
            out.reads.union(&self.range(addr, bytes, false));
            let frame = m.memory().words::<5>(state.sregs.cr3, addr + bytes - size_of::<Frame>() as u64);
            out.back_to = frame.map(|[rip, .., rsp, _]| (rip, rsp));
        }
        out
    }

    /// The instruction was executed and led here. A fault's handler has a frame
    /// written for it; not so where a return led to its first instruction, at which an
    /// NMI had interrupted it.
    pub fn after(&mut self, mut access: Access, session: &Session) {
        let m = session.machine();
        let to = Point::of(session);
        let landed = access.back_to == Some((to.rip, to.rsp));
        if let Some(vector) = m.idt().vector_of(to.rip).filter(|v| *v != 2 && !landed) {
            let bytes = if has_error_code(vector) { 48 } else { 40 };
            access.writes = self.range(to.rsp, bytes, true); // the instruction itself wrote nothing
        }
        self.see(access, to);
    }

    /// An NMI was delivered at `from`.
    pub fn delivered(&mut self, from: Point, session: &Session) {
        let m = session.machine();
        let to = Point::of(session);
        let bytes = if m.mode() == Mode::Pv { m.pv().frame_bytes() } else { 40 };
        self.see(Access { from, reads: Words::NONE, writes: self.range(to.rsp, bytes, true), back_to: None }, to);
    }

    fn see(&mut self, access: Access, to: Point) {
        let Access { from, reads, writes, .. } = access;
        self.read.union(&reads.minus(&self.written));
        self.written.union(&writes);
        let edges = self.edges.entry(from).or_insert_with(|| {
            self.order.push(from);
            Vec::new()
        });
        match edges.iter_mut().find(|e| e.to == to) {
            None => {
                edges.push(Edge { to, reads, writes });
                self.dirty = true;
            }
            Some(e) if reads.within(&e.reads) && e.writes.within(&writes) => {}
            Some(e) => {
                e.reads.union(&reads);
                e.writes.intersect(&writes);
                self.dirty = true;
            }
        }
    }

    /// Takes over what another has seen.
    pub fn absorb(&mut self, other: &Self) {
        for (from, edges) in &other.edges {
            for e in edges {
                self.see(Access { from: *from, reads: e.reads, writes: e.writes, back_to: None }, e.to);
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
        let mut live = HashMap::<Point, Words>::with_capacity(self.edges.len());
        // What is live flows backwards, and points were found forwards.
        loop {
            let mut grew = false;
            for (from, edges) in self.order.iter().rev().filter_map(|p| self.edges.get_key_value(p)) {
                let mut now = live.get(from).copied().unwrap_or(Words::NONE);
                let before = now;
                for e in edges {
                    now.union(&e.reads);
                    let ends = self.episodes && from.nmis > 0 && e.to.nmis == 0;
                    if let Some(out) = live.get(&e.to).filter(|_| !ends) {
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
        self.entered = Words::NONE;
        for (_, edges) in self.edges.iter().filter(|(from, _)| from.nmis == 0) {
            for e in edges.iter().filter(|e| e.to.nmis > 0) {
                let at = live.get(&e.to).map_or(Words::NONE, |out| out.minus(&e.writes));
                self.entered.union(&at);
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
    /// Whether the word at `addr` is live. What is no stack word is.
    pub fn is_live(&self, addr: u64) -> bool {
        self.is_kept(addr) || self.is_read(addr)
    }

    /// Whether the word at `addr` belongs to the interrupted work's part of a stack.
    pub fn is_kept(&self, addr: u64) -> bool {
        self.kept.contains(&addr)
    }

    /// Whether the word at `addr` may still be read. What is no stack word may.
    pub fn is_read(&self, addr: u64) -> bool {
        let Some(word) = self.all.word(addr) else { return true };
        self.all.always.has(word) || self.live.is_some_and(|live| live.has(word))
    }
}

impl Access {
    /// Where the instruction stands.
    pub fn point(&self) -> Point {
        self.from
    }
}

/// What an instruction touches.
#[derive(Clone, Copy)]
pub struct Access {
    from: Point,
    reads: Words,
    writes: Words,
    /// RIP and RSP in the frame that it returns by, where it is a return.
    back_to: Option<(u64, u64)>,
}
