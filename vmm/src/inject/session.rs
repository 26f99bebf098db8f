//! One machine and its oracle, as they stand at a boundary: what they hold, saved and put back.
//! All gears and the explorer are built on this.

use std::sync::Arc;

use crate::cpu::Traced;
use crate::image::Trap;
use crate::machine::{Checkpoint, Engine, Machine};
use crate::oracle::{Ghost, Oracle, Rules, Verdict};

/// A session's whole state, to come back to.
#[derive(Clone)]
pub struct Saved {
    /// The machine.
    pub machine: Checkpoint,
    /// The oracle's memory.
    pub ghost: Ghost,
    /// The pages at the outermost delivery, empty where no NMI is live.
    pub captured: Vec<u8>,
}

/// One scheme and scenario, booted and with its golden run made.
pub struct Session {
    pub(super) machine: Machine,
    pub(super) oracle: Oracle,
    pub(super) ready: Checkpoint,
    /// The return instructions, where a free run stops while an NMI is live.
    pub(super) live_stops: Vec<u64>,
    /// Room for a run's stops.
    pub(super) stops: Vec<u64>,
    /// Where earlier runs went round for ever: the next one that comes there is looked at
    /// closely, instead of waiting for the watchdog.
    pub(super) suspects: Vec<u64>,
    /// Advances since the run began; a run that goes on and on is looked at closely.
    pub(super) advances: u64,
    /// The NMI that has just arrived is not delivered before another instruction was
    /// executed (`--hv-bug nmi-window-sets-tf`).
    pub(super) late: bool,
}

impl Session {
    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The oracle.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// The rules, with the golden run.
    pub fn rules(&self) -> &Arc<Rules> {
        self.oracle.rules()
    }

    /// The lowest address of an instruction that read time or randomness, in the golden run or since
    /// it was last forgotten.
    pub fn reads_time(&self) -> Option<u64> {
        let seen = [self.rules().golden.reads_time, self.machine.read_time()];
        seen.into_iter().flatten().min()
    }

    /// Forgets what other runs than the golden one have read.
    pub fn forget_read_time(&mut self) {
        self.machine.forget_read_time();
    }

    /// [`Machine::take_smi_played`].
    pub fn take_smi_played(&mut self) -> bool {
        self.machine.take_smi_played()
    }

    /// Back to *ready*.
    pub fn reset(&mut self) {
        self.machine.restore(&self.ready);
        self.oracle.reset();
        self.advances = 0;
    }

    /// Copies the whole state into `out`.
    pub fn save(&self, out: &mut Saved) {
        self.machine.checkpoint_into(&mut out.machine);
        out.ghost = self.oracle.ghost;
        out.captured.clear();
        out.captured.extend_from_slice(self.oracle.captured());
    }

    /// A copy of the whole state.
    pub fn saved(&self) -> Saved {
        let (machine, ghost) = (self.machine.checkpoint(), self.oracle.ghost);
        Saved { machine, ghost, captured: self.oracle.captured().to_vec() }
    }

    /// Puts a saved state back.
    pub fn restore(&mut self, from: &Saved) {
        self.machine.restore(&from.machine);
        self.oracle.restore(&from.ghost, &from.captured);
        self.advances = 0;
    }

    /// The machine and the oracle, for a caller that puts a state back piece by piece
    /// and leaves out what is the same.
    pub fn pieces(&mut self) -> (&mut Machine, &mut Oracle) {
        self.advances = 0;
        (&mut self.machine, &mut self.oracle)
    }

    /// Has instructions executed by `engine` from now on.
    pub fn set_engine(&mut self, engine: Engine) {
        self.machine.set_engine(engine);
    }

    /// Follows from now on where values come from; `None` stops it.
    pub fn set_trace(&mut self, trace: Option<Box<Traced>>) {
        self.machine.set_trace(trace);
    }

    /// Takes what was followed; `None` where something could not be.
    pub fn take_trace(&mut self) -> Option<Box<Traced>> {
        self.machine.take_trace()
    }

    /// Forgets what was accessed.
    pub fn clear_accesses(&mut self) {
        self.machine.clear_accesses();
    }

    /// The verdict, once the run has ended.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.oracle.verdict()
    }

    /// Takes the verdict of a run that has ended.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.oracle.take_verdict()
    }

    /// The #DBs and #GPs of the golden run.
    pub fn golden_traps(&self) -> &[Trap] {
        &self.rules().golden.traps
    }
}
