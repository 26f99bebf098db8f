//! No re-entry (I5): one body runs at a time, and each that begins ends.

use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// A body begins while another is active, or not.
    pub(in crate::oracle) fn check_no_reentry(&mut self, nested: bool) {
        if nested {
            self.breaks(Invariant::NoReentry, |_| "a body begins while another is active".to_owned());
        }
    }

    /// A body ends.
    pub(in crate::oracle) fn check_body_was_active(&mut self) {
        match self.ghost.bodies.checked_sub(1) {
            Some(n) => self.ghost.bodies = n,
            None => self.breaks(Invariant::NoReentry, |_| "a body ends that has not begun".to_owned()),
        }
    }

    /// At the return of an outermost NMI: no body was left behind.
    pub(in crate::oracle) fn check_no_body_is_left(&mut self, outer: &Context) {
        if self.ghost.bodies != 0 {
            self.breaks(Invariant::NoReentry, |r| {
                format!("resumed {} with a body still active", r.names().show(outer.rip()))
            });
        }
    }
}
