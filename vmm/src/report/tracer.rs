//! Watches a run and tells each instruction.

use guest::abi::Frame;

use super::trace::Step;
use crate::image::vectors::vector_name;
use crate::image::{Decoded, Flow};
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
        let next = m.next_instruction();
        if next.is_some_and(|d| d.flow == Flow::Iret) {
            let rsp = m.state().regs.rsp;
            self.event(format!("the return consumes the frame at {rsp:#x}: {}", frame(session, rsp)));
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
            text: next.map_or("(no instruction)".into(), |d| d.text().replace('\t', " ")),
            changed: vec![],
            transfers: next.is_some_and(|d| transfers(&d)),
        };
        self.under_way = Some((step, *m.state()));
    }

    fn arrived(&mut self, session: &Session, kind: Kind) {
        let m = session.machine();
        let at = session.rules().names().show(m.rip());
        self.event(format!("{} (at {at})", kind.told(Boundary::of(session))));
    }

    fn delivered(&mut self, session: &Session, kind: Kind) {
        // The instruction at this boundary has not run: it is shown when it does.
        if self.under_way.take().is_some() {
            self.number -= 1;
        }
        if session.verdict().is_some() {
            return self.event(format!("the delivery of {} fails", kind.the()));
        }
        let m = session.machine();
        let (place, rsp) = (session.rules().names().show(m.rip()), m.state().regs.rsp);
        // FRED's frame has more words than five; the oracle knows which of them they are.
        let pushed = session.oracle().ghost.frames.live().last();
        let frame = pushed.map_or("not followed".into(), |live| words(session, &live.words));
        self.event(format!("{} is delivered: {place} begins; its frame is {frame}; RSP is {rsp:#x}", kind.the()));
    }
}

/// The words of a frame, lowest first.
fn words(session: &Session, frame: &Frame) -> String {
    let Frame { rip, cs, rflags, rsp, ss } = frame;
    format!("RIP {}, CS {cs:#x}, RFLAGS {rflags:#x}, RSP {rsp:#x}, SS {ss:#x}", session.rules().names().show(*rip))
}

/// The words of the frame at `rsp` that an iretq is about to consume.
fn frame(session: &Session, rsp: u64) -> String {
    let m = session.machine();
    match m.memory().words(m.state().sregs.cr3, rsp) {
        Some([rip, cs, rflags, rsp, ss]) => words(session, &Frame { rip, cs, rflags, rsp, ss }),
        None => "not mapped".into(),
    }
}

/// Whether an instruction goes to another function, or comes back from it.
fn transfers(d: &Decoded) -> bool {
    let call = d.insn.is_call_near()
        || d.insn.is_call_far()
        || d.insn.is_call_near_indirect()
        || d.insn.is_call_far_indirect();
    call || matches!(d.flow, Flow::Return | Flow::Iret | Flow::Syscall | Flow::Sysret | Flow::Trap)
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
