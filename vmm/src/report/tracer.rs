//! Watches a run and tells each instruction.

use super::trace::Step;
use crate::image::vectors::vector_name;
use crate::inject::{Boundary, Kind, Session, Visitor};
use crate::kvm::VcpuState;

/// Turns what a run does into [`Step`]s.
pub struct Tracer<'a> {
    sink: &'a mut dyn FnMut(Step),
    /// The instruction under way, told when the next boundary shows what it did.
    under_way: Option<(Step, VcpuState)>,
    number: u64,
    visits: std::collections::HashMap<u64, u32>,
}

impl<'a> Tracer<'a> {
    /// Tells `sink`.
    pub fn new(sink: &'a mut dyn FnMut(Step)) -> Self {
        Self { sink, under_way: None, number: 0, visits: Default::default() }
    }

    /// The run has ended: tells its last instruction.
    pub fn finish(mut self, session: &Session) {
        self.settle(session);
    }

    fn event(&mut self, what: String) {
        (self.sink)(Step::Event { what });
    }

    /// Tells the instruction under way, with what changed.
    fn settle(&mut self, session: &Session) {
        let Some((mut step, before)) = self.under_way.take() else { return };
        if let Step::Instruction { changed, .. } = &mut step {
            *changed = differences(&before, session.machine().state());
        }
        (self.sink)(step);
    }
}

impl Visitor for Tracer<'_> {
    fn boundary(&mut self, session: &Session) {
        let m = session.machine();
        let rip = m.rip();
        let moved = self.under_way.is_some();
        self.settle(session);
        let exception = m.idt().vector_of(rip).filter(|v| *v != 2 && moved);
        let names = session.rules().names();
        if let Some(vector) = exception {
            self.event(format!("{} is raised; its handler {} begins", vector_name(vector), names.show(rip)));
        }
        let n = self.visits.entry(rip).or_default();
        *n += 1;
        self.number += 1;
        let step = Step::Instruction {
            number: self.number,
            at: format!("{}#{n}", names.show(rip)),
            address: format!("{rip:#x}"),
            blocked: m.blocked(),
            pending: m.pending(),
            shadow: m.in_shadow(),
            depth: session.oracle().ghost.frames.nmis(),
            bodies: session.oracle().ghost.bodies,
            source: m.guest().has_source().then(|| m.guest().source(rip).unwrap_or("-".into())),
            text: m.next_instruction().map_or("(no instruction)".into(), |d| d.text().replace('\t', " ")),
            changed: vec![],
        };
        self.under_way = Some((step, *m.state()));
    }

    fn arrived(&mut self, session: &Session, kind: Kind) {
        let m = session.machine();
        let at = session.rules().names().show(m.rip());
        self.event(format!("{} (at {at})", kind.told(Boundary::of(m))));
    }

    fn delivered(&mut self, session: &Session) {
        // The instruction at this boundary has not run: it is shown when it does.
        if self.under_way.take().is_some() {
            self.number -= 1;
        }
        if session.verdict().is_some() {
            return self.event("the NMI's delivery fails".to_owned());
        }
        let m = session.machine();
        let (place, rsp) = (session.rules().names().show(m.rip()), m.state().regs.rsp);
        self.event(format!("the NMI is delivered: {place} begins with RSP {rsp:#x}"));
    }
}

/// The registers that differ, without RIP.
pub(super) fn differences(before: &VcpuState, after: &VcpuState) -> Vec<(&'static str, String)> {
    let list = |s: &VcpuState| {
        let (r, s) = (&s.regs, &s.sregs);
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rsp", r.rsp),
            ("rbp", r.rbp),
            ("r8", r.r8),
            ("r9", r.r9),
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
            ("flags", r.rflags),
            ("cs", s.cs.selector.into()),
            ("ss", s.ss.selector.into()),
            ("gs", s.gs.base),
            ("cr2", s.cr2),
            ("cr3", s.cr3),
        ]
    };
    let changed = list(before).into_iter().zip(list(after)).filter(|((_, was), (_, is))| was != is);
    changed.map(|(_, (name, is))| (name, format!("{is:#x}"))).collect()
}
