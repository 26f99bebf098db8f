//! Bound (I4): there are no more body runs than deliveries.

use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// A body begins; `answered` where it answers a delivery.
    pub(in crate::oracle) fn check_bound(&mut self, answered: bool) {
        if !answered {
            self.breaks(Invariant::Bound, |_| "a body runs though every delivery has had its body".to_owned());
        } else if self.ghost.outer.is_none() {
            self.breaks(Invariant::Bound, |_| "a body runs with no NMI live".to_owned());
        }
    }
}
