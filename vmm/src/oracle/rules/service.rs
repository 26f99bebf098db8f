//! Service (I3): for each arrival some body run begins at or after it.

use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// At the scenario's end: no arrival is left without a body.
    pub(in crate::oracle) fn check_service(&mut self) {
        if self.ghost.owed {
            self.breaks(Invariant::Service, |_| "an NMI arrived and no body run began after it".to_owned());
        }
    }
}
