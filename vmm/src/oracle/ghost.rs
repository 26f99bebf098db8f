//! What the oracle remembers about a run. Two equal machines with equal ghosts are
//! one state of the search.

use super::context::Context;
use super::frames::Frames;

/// Deliveries that no body run has answered yet, counted up to here; beyond it "many",
/// which stays so until the outermost return and raises no alarm.
const MANY: u8 = 2;

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
    /// The context that a machine check or an interrupt came to, whose handler has not returned.
    pub external: Option<Context>,
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

    /// The context that an event from outside came to, once its frame is no longer live.
    pub fn external_is_over(&mut self) -> Option<Context> {
        if self.frames.external().is_none() { self.external.take() } else { None }
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
