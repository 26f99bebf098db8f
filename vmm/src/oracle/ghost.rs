//! What the oracle remembers about a run. Two equal machines with equal ghosts are
//! one state of the search.

use super::context::Context;
use super::frames::{Frames, Live};
use crate::image::vectors::MACHINE_CHECK;

/// Deliveries that no body run has answered yet, counted up to here; beyond it "many",
/// which stays so until the outermost return and raises no alarm.
const MANY: u8 = 2;

/// Events from outside, besides NMIs, that are followed at once: one in the handler of another,
/// with any number of NMIs in between.
pub const MOST_EXTERNAL: usize = 2;

/// Ghost state. It is bounded, so that a search over it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The model's B.
    pub blocked: bool,
    /// The model's P.
    pub pending: bool,
    /// An arrival has not been followed by a body run yet (I3).
    pub owed: bool,
    /// Deliveries less body runs in this episode (I4).
    slack: u8,
    /// Bodies that have begun and not ended (I5).
    pub bodies: u8,
    /// #DB and #GP that the active body has taken (I16).
    pub body_traps: u8,
    /// The context that the outermost live NMI interrupted.
    pub outer: Option<Context>,
    /// The contexts that events from outside came to (no NMIs) whose handlers have not returned, the
    /// oldest first. Each has its frame in `frames`.
    external: [Option<Context>; MOST_EXTERNAL],
    /// A body has begun in this episode, which began in user code (I15).
    pub served: bool,
    /// Frames not yet returned from (I8).
    pub frames: Frames,
    /// #DB and #GP seen in the interrupted code (I16).
    pub traps: u16,
}

impl Ghost {
    /// An NMI was delivered.
    pub fn delivered(&mut self) {
        self.blocked = true;
        self.pending = false;
        self.slack = (self.slack + 1).min(MANY);
    }

    /// A body begins; `false` where no delivery is left that it could answer.
    pub fn body_begins(&mut self) -> bool {
        self.owed = false;
        self.body_traps = 0;
        self.bodies = self.bodies.saturating_add(1);
        self.served = self.outer.is_some_and(|outer| outer.cpl() == 3);
        match self.slack {
            0 => return false,
            MANY => {}
            _ => self.slack -= 1,
        }
        true
    }

    /// Whether the handler of an event from outside is live, which is no NMI's.
    pub fn in_external(&self) -> bool {
        self.frames.external().next().is_some()
    }

    /// Whether one more such event can be followed.
    pub fn has_room_for_external(&self) -> bool {
        self.frames.external().count() < MOST_EXTERNAL
    }

    /// Whether a machine check is being handled.
    pub fn in_machine_check(&self) -> bool {
        self.frames.external().any(|frame| frame.vector == MACHINE_CHECK)
    }

    /// An event from outside came to `context`, whose frame is `frame`.
    pub fn external_begins(&mut self, context: Context, frame: Live) {
        self.frames.push(frame);
        let newest = self.frames.external().count().checked_sub(1);
        if let Some(place) = newest.and_then(|n| self.external.get_mut(n)) {
            *place = Some(context);
        }
    }

    /// Forgets the contexts whose frames are no longer live. Returns the oldest of them, which is
    /// the one that goes on.
    pub fn external_is_over(&mut self) -> Option<Context> {
        let live = self.frames.external().count().min(MOST_EXTERNAL);
        let over = self.external[live..].first().copied().flatten();
        self.external[live..].fill(None);
        over
    }

    /// The outermost NMI was returned from.
    pub fn end_episode(&mut self) {
        self.outer = None;
        self.slack = 0;
        self.served = false;
        self.frames.end_episode();
        self.external_is_over();
    }
}
