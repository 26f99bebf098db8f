//! Traps (I16): the interrupted code takes the #DBs and #GPs of the golden run, and a body
//! those that the scenario says.

use crate::image::Trap;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// The interrupted code took a #DB or a #GP.
    pub(in crate::oracle) fn check_trap(&mut self, trap: Trap) {
        if let Some(list) = &mut self.recorded {
            return list.push(trap);
        }
        let i = usize::from(self.ghost.traps);
        self.ghost.traps = self.ghost.traps.saturating_add(1);
        let expected = self.rules.golden.traps.get(i).copied();
        if expected != Some(trap) {
            self.breaks(Invariant::Traps, |r| {
                let expected = expected.map_or("none".to_owned(), |t| t.show(&r.names()));
                format!("the interrupted code took {}; the golden run takes {expected} there", trap.show(&r.names()))
            });
        }
    }

    /// At the scenario's end: the interrupted code took all of them.
    pub(in crate::oracle) fn check_all_traps(&mut self) {
        let n = self.ghost.traps;
        if usize::from(n) != self.rules.golden.traps.len() {
            self.breaks(Invariant::Traps, |r| {
                format!("the interrupted code took {n} #DB or #GP; the golden run takes {}", r.golden.traps.len())
            });
        }
    }

    /// The active body took a #DB or a #GP: it must be the next that the scenario says.
    pub(in crate::oracle) fn check_body_trap(&mut self, trap: Trap) {
        let declared = &self.rules.scenario.traps;
        if declared.is_empty() {
            return;
        }
        let expected = declared.get(usize::from(self.ghost.body_traps)).copied();
        self.ghost.body_traps = self.ghost.body_traps.saturating_add(1);
        if expected != Some(trap) {
            self.breaks(Invariant::Traps, |r| {
                let expected = expected.map_or("none".to_owned(), |t| t.show(&r.names()));
                format!("the body took {}; the scenario says {expected} there", trap.show(&r.names()))
            });
        }
    }

    /// A body ends: it took all of them.
    pub(in crate::oracle) fn check_all_body_traps(&mut self) {
        let (took, declared) = (usize::from(self.ghost.body_traps), self.rules.scenario.traps.len());
        self.ghost.body_traps = 0;
        if declared > 0 && took != declared && self.ghost.bodies > 0 {
            self.breaks(Invariant::Traps, |_| format!("the body took {took} traps; the scenario says {declared}"));
        }
    }
}
