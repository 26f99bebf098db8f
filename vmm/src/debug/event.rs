//! What happens in a run besides instructions: what gdb's user wants to go to next.

use crate::image::Flow;
use crate::image::vectors::vector_name;
use crate::inject::{Boundary, Kind, Session};
use crate::machine::Machine;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Moves since *ready* when it had happened.
    pub after: usize,
    /// What sort of thing it is.
    pub what: What,
    /// What, in a sentence.
    pub text: String,
}

/// What sort of thing an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Something arrived.
    Arrival,
    /// An NMI was delivered.
    Delivery,
    /// An exception was raised.
    Fault,
    /// A handler returned.
    Return,
    /// The run ended.
    End,
    /// Anything else, and what is not told apart.
    Other,
}

/// What must be remembered of the boundary before a move to say what the move did.
pub struct Before {
    place: String,
    /// RIP and RSP that the next instruction returns to, where it is an iretq.
    returns_to: Option<(u64, u64)>,
    blocked: bool,
    nmis: u32,
    bodies: u8,
}

impl Before {
    /// Of the boundary that the session stands at.
    pub fn of(session: &Session) -> Self {
        let m = session.machine();
        let ghost = &session.oracle().ghost;
        Self {
            place: session.rules().names().show(m.rip()),
            returns_to: returns_to(m),
            blocked: m.blocked(),
            nmis: ghost.frames.nmis(),
            bodies: ghost.bodies,
        }
    }

    /// Whether the instruction that began there was a return, and led to where it should. That may
    /// be a handler's first instruction, where an NMI had interrupted.
    pub fn returned_to(&self, session: &Session) -> bool {
        let regs = &session.machine().state().regs;
        self.returns_to == Some((regs.rip, regs.rsp))
    }

    /// What the instruction did that began there, as sentences. `raised` is the vector of an
    /// exception that it took.
    pub fn instruction(&self, session: &Session, raised: Option<u8>) -> Vec<String> {
        let (m, place) = (session.machine(), &self.place);
        let here = session.rules().names().show(m.rip());
        let ghost = &session.oracle().ghost;
        let mut out = Vec::new();
        if let Some(vector) = raised {
            out.push(format!("{} is raised at {place}, and its handler {here} begins", vector_name(vector)));
        } else if self.returns_to.is_some() || ghost.frames.nmis() < self.nmis {
            let left = if ghost.frames.nmis() < self.nmis { "an NMI is left: " } else { "" };
            let opens = if self.blocked && !m.blocked() { ", and unblocks NMIs" } else { "" };
            out.push(format!("{left}the return at {place} leads to {here}{opens}"));
        }
        match ghost.bodies.cmp(&self.bodies) {
            std::cmp::Ordering::Greater => out.push(format!("an NMI's body begins at {place}")),
            std::cmp::Ordering::Less => out.push(format!("an NMI's body ends at {place}")),
            std::cmp::Ordering::Equal => {}
        }
        out
    }

    /// What the delivery did that took place there.
    pub fn delivery(&self, session: &Session, kind: Kind) -> String {
        let (m, place) = (session.machine(), &self.place);
        let here = session.rules().names().show(m.rip());
        let rsp = m.state().regs.rsp;
        let what = if kind == Kind::Nmi { "an NMI" } else { kind.the() };
        format!("{what} is delivered at {place}: {here} begins, with its frame at {rsp:#x}")
    }
}

fn returns_to(m: &Machine) -> Option<(u64, u64)> {
    m.next_instruction().filter(|d| d.flow == Flow::Iret)?;
    let state = m.state();
    let [rip, _, _, rsp, _] = m.memory().words(state.sregs.cr3, state.regs.rsp)?;
    Some((rip, rsp))
}

/// What an arrival at the boundary of `session` does there.
pub fn arrival(session: &Session, kind: Kind) -> String {
    let place = session.rules().names().show(session.machine().rip());
    format!("{} (at {place})", kind.told(Boundary::of(session)))
}
