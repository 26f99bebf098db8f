//! Context (I6): what was interrupted goes on with every register as it was; RIP may be
//! another where the scheme declares that (`resumes=`, or `repeat=` in the interrupted code).

use crate::cpu::Difference;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// At the return of an outermost NMI: `now` is what it interrupted.
    pub(in crate::oracle) fn check_context(&mut self, outer: &Context, now: &Context) {
        let meant = self.rules.may_resume(outer.rip(), now.rip());
        let expected = if meant { outer.at(now.rip()) } else { *outer };
        let Some(Difference { register, was, is }) = expected.difference(now) else { return };
        self.breaks(Invariant::Context, |r| {
            let show = |v: u64| if register == "RIP" { r.names().show(v) } else { format!("{v:#x}") };
            let at = r.names().show(outer.rip());
            format!("{register} was {} at the interruption of {at}, and is {} at resume", show(was), show(is))
        });
    }

    /// At the scenario's end: no NMI is live, whose context would never go on.
    pub(in crate::oracle) fn check_resumed(&mut self) {
        if self.ghost.outer.is_some() {
            self.breaks(Invariant::Context, |_| {
                "the scenario ended inside an NMI: its context was never resumed".to_owned()
            });
        }
    }
}
