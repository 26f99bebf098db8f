//! The frames that were delivered and not yet returned from (I8).

use std::hash::{Hash, Hasher};

use guest::abi::Frame;

/// Most frames that are remembered at once.
const MOST: usize = 8;

/// A frame as it was pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Live {
    /// Address of its lowest word.
    pub addr: u64,
    /// What was pushed.
    pub words: Frame,
    /// The vector it was pushed for; 2 is an NMI.
    pub vector: u8,
    /// It was pushed for an event from outside that is no NMI, and so is of a context that goes on
    /// as it was. A #DB may be either.
    pub external: bool,
}

impl Live {
    /// Of an NMI.
    pub fn nmi(addr: u64, words: Frame) -> Self {
        Self { addr, words, vector: 2, external: false }
    }

    /// Of what the instruction at hand raised.
    pub fn fault(addr: u64, words: Frame, vector: u8) -> Self {
        Self { addr, words, vector, external: false }
    }

    /// Of an event from outside.
    pub fn external(addr: u64, words: Frame, vector: u8) -> Self {
        Self { addr, words, vector, external: true }
    }

    /// Whether it is of a context that goes on as it was.
    fn is_kept(&self) -> bool {
        self.external || self.vector == 2
    }
}

/// The live frames, oldest first; what lies behind them is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    list: [Live; MOST],
    len: u8,
    /// How many were live when the outermost NMI was delivered.
    base: u8,
    /// There were more than are remembered: a return that fits none raises no alarm.
    lost: bool,
}

impl Hash for Frames {
    fn hash<H: Hasher>(&self, h: &mut H) {
        (self.live(), self.base, self.lost).hash(h);
    }
}

impl Frames {
    /// Those that are live, the oldest first.
    pub fn live(&self) -> &[Live] {
        &self.list[..self.len.into()]
    }

    /// Whether any frame is live.
    pub fn any(&self) -> bool {
        !self.live().is_empty()
    }

    /// How many NMIs are live, one inside the other.
    pub fn nmis(&self) -> u32 {
        self.live().iter().filter(|f| f.vector == 2).count() as u32
    }

    /// The words of the NMI frame pushed last, where it is nested in another's.
    pub fn nested(&self) -> Option<&Frame> {
        let mut nmis = self.live().iter().rev().filter(|f| f.vector == 2);
        let last = nmis.next()?;
        nmis.next().map(|_| &last.words)
    }

    /// The frames of events from outside that are no NMIs, the oldest first.
    pub fn external(&self) -> impl Iterator<Item = &Live> {
        self.live().iter().filter(|f| f.external)
    }

    /// Whether what was pushed last is an event's from outside, and its context stands at `rip` and
    /// `rsp` at this privilege level: it goes on. (Where a delivery overwrote the interrupted
    /// stack from its very top, the handler itself may begin there.)
    pub fn external_goes_on(&self, rip: u64, rsp: u64, cpl: u64) -> bool {
        let back = |f: &Live| (f.words.rip, f.words.rsp, f.words.cs & 3) == (rip, rsp, cpl) && f.addr != rsp;
        self.live().last().is_some_and(|f| f.external && back(f))
    }

    /// Forgets the frame that was pushed last.
    pub fn pop(&mut self) {
        self.truncate(self.len.saturating_sub(1));
    }

    /// Whether what was pushed last and is still live is an NMI's.
    pub fn innermost_is_an_nmis(&self) -> bool {
        self.live().last().is_some_and(|f| f.vector == 2)
    }

    /// The outermost NMI's frame, where it is live.
    pub fn outermost(&self) -> Option<&Live> {
        self.live().get(usize::from(self.base))
    }

    /// An outermost NMI is about to be delivered.
    pub fn begin_episode(&mut self) {
        self.base = self.len;
    }

    /// The outermost NMI has been returned from: nothing of it is live.
    pub fn end_episode(&mut self) {
        self.truncate(self.base);
        self.lost = false;
    }

    /// Keeps at most the `len` oldest; there are fewer where a return inside an NMI
    /// consumed a frame from before it.
    fn truncate(&mut self, len: u8) {
        let len = len.min(self.len);
        self.list[len.into()..self.len.into()].fill(Live::default());
        self.len = len;
    }

    /// A frame was pushed. A fault's frame is only ever returned from in place, so it is
    /// gone where the new one overwrites it, and where the interrupted code had its
    /// stack pointer above it.
    pub fn push(&mut self, new: Live) {
        let base = usize::from(self.base);
        let rsp = new.words.rsp;
        let overwritten = |old: &Live| old.addr < new.addr + 40 && new.addr < old.addr + 40;
        let left = |old: &Live| old.addr >> 12 == rsp >> 12 && old.addr < rsp;
        self.retain(|i, old| i < base || old.is_kept() || !(overwritten(old) || left(old)));
        if self.live().contains(&new) {
            return; // the same context interrupted again at the same place
        }
        if usize::from(self.len) == MOST {
            // The oldest that the outermost return does not need.
            let drop = (base + 1).min(MOST - 1);
            self.retain(|i, _| i != drop);
            self.lost = true;
        }
        self.list[usize::from(self.len)] = new;
        self.len += 1;
    }

    fn retain(&mut self, keep: impl Fn(usize, &Live) -> bool) {
        let mut kept = Frames { base: self.base, lost: self.lost, ..Frames::default() };
        for (i, old) in self.live().iter().enumerate() {
            if keep(i, old) {
                kept.list[usize::from(kept.len)] = *old;
                kept.len += 1;
            }
        }
        *self = kept;
    }

    /// A return consumed `words` at `addr`: forgets that frame and all above it.
    /// `false` where no live frame is like it, unless some were lost.
    ///
    /// An NMI's frame may be returned from in a copy, word for word. A fault's is
    /// returned from in place, and its handler may have moved RIP or changed flags; an NMI's
    /// handler may have moved RIP where `moved` says so of the one that was interrupted.
    pub fn consume(&mut self, addr: u64, words: &Frame, moved: impl Fn(u64) -> bool) -> bool {
        let same = |old: &Live| match old.vector {
            2 => old.words == *words || Frame { rip: words.rip, ..old.words } == *words && moved(old.words.rip),
            _ if old.external => old.words == *words,
            _ => {
                let w = &old.words;
                old.addr == addr && (w.cs, w.rsp, w.ss) == (words.cs, words.rsp, words.ss)
            }
        };
        let Some(i) = self.live().iter().rposition(same) else { return self.lost };
        self.truncate(i as u8);
        true
    }

    /// A return to a declared repeat consumed the frame at `addr`: where that is a live
    /// one whose RIP was rewritten in place, it is no longer live.
    pub fn rewritten(&mut self, addr: u64, words: &Frame) {
        let same = |old: &Live| old.addr == addr && (old.words.rsp, old.words.ss) == (words.rsp, words.ss);
        if let Some(i) = self.live().iter().rposition(same) {
            self.truncate((i as u8).max(self.base + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rip: u64) -> Frame {
        Frame { rip, cs: 8, rflags: 2, rsp: 0x1000, ss: 0x10 }
    }

    #[test]
    fn an_nmi_frame_is_returned_from_in_a_copy_and_a_faults_only_in_place() {
        let mut f = Frames::default();
        f.begin_episode();
        f.push(Live::nmi(0x8fd8, frame(1)));
        f.push(Live::fault(0x8f00, frame(2), 14));
        assert!(!f.consume(0x8e00, &frame(2), |_| false));
        assert!(f.consume(0x8f00, &frame(3), |_| false), "its handler may move RIP");
        assert!(f.consume(0x8123, &frame(1), |_| false));
        assert_eq!(f, Frames::default());
    }

    #[test]
    fn a_return_by_a_frame_from_before_the_episode_leaves_fewer_than_its_base() {
        let mut f = Frames::default();
        f.push(Live::fault(0x8f00, frame(1), 1));
        f.begin_episode();
        f.push(Live::nmi(0x9fd8, frame(2)));
        assert!(f.consume(0x8f00, &frame(1), |_| false));
        f.rewritten(0x9fd8, &frame(2));
        f.end_episode();
        assert_eq!((f.nmis(), f.outermost()), (0, None));
    }

    #[test]
    fn an_event_is_over_where_its_context_goes_on() {
        let mut f = Frames::default();
        f.push(Live::external(0x8f00, frame(1), 18));
        assert!(f.external_goes_on(1, 0x1000, 0) && !f.external_goes_on(1, 0x1000, 3));
        f.push(Live::nmi(0x9fd8, frame(1)));
        assert!(!f.external_goes_on(1, 0x1000, 0), "the NMI's context does");
        f.pop();
        f.push(Live::external(0x1000, frame(1), 1));
        assert!(!f.external_goes_on(1, 0x1000, 0), "its own handler begins there");
    }

    #[test]
    fn an_overwritten_fault_frame_is_gone() {
        let mut f = Frames::default();
        f.begin_episode();
        f.push(Live::nmi(0x8fd8, frame(1)));
        f.push(Live::fault(0x8f00, frame(2), 14));
        let inside = Frame { rsp: 0x8e80, ..frame(4) };
        f.push(Live::nmi(0x8fd8, inside));
        assert!(f.clone().consume(0x8f00, &frame(2), |_| false), "an IST delivery leaves what lies below alone");
        f.push(Live::fault(0x8ef0, inside, 14));
        assert!(!f.consume(0x8f00, &frame(2), |_| false));
    }

    #[test]
    fn an_nmis_return_may_move_rip_only_where_that_is_declared() {
        let mut f = Frames::default();
        f.begin_episode();
        f.push(Live::nmi(0x8fd8, frame(1)));
        assert!(!f.clone().consume(0x8fd8, &frame(7), |was| was == 2));
        assert!(!f.clone().consume(0x8fd8, &Frame { rsp: 0, ..frame(7) }, |was| was == 1));
        assert!(f.consume(0x8fd8, &frame(7), |was| was == 1));
        assert_eq!(f, Frames::default());
    }
}
