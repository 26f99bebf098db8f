//! The path that NMIs take through the kernel, boundary by boundary, and until when
//! each delivery's hardware frame is still to be read.

use std::collections::HashMap;

use iced_x86::{InstructionInfoFactory, OpAccess};

use super::case::{LONGEST, Run, Step};
use super::entry::EntryPath;
use super::error::LabError;
use super::kernel::HandlerGs;
use super::lab::Lab;
use super::pc::Pc;
use crate::cpu::rflags;
use crate::image::{Decoded, Flow};
use crate::inject::{At, Event, Gear};

/// A boundary on a path.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Where, and for which time.
    pub at: At,
    /// Whether NMIs are blocked here.
    pub blocked: bool,
    /// The stack pointer here.
    pub rsp: u64,
    /// The flags here.
    pub rflags: u64,
    /// GS's base here.
    pub gs: u64,
    /// Whether this is CPL 3.
    pub user: bool,
    /// The instruction that will read the hardware's frame last, if one still will.
    pub frame_read_at: Option<u64>,
    /// The same for the word beneath that frame, the first that entry code writes.
    pub save_read_at: Option<u64>,
    /// Whether the handler has saved CR2, and has not yet put it back: whether it may fault.
    pub saved_cr2: bool,
}

/// The boundaries from the first NMI's delivery until the interrupted code goes on.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// The boundaries in the order they were come to.
    pub visits: Vec<Visit>,
    /// Of these, where each delivered NMI's handler begins.
    pub deliveries: Vec<usize>,
}

impl Lab {
    /// Steps through what `events` lead to.
    pub fn walk(&mut self, events: &[Event]) -> Result<Path, LabError> {
        self.walk_with(events, &mut |_, _| {})
    }

    /// The same; `look` is given each instruction before it is executed.
    pub(super) fn walk_with(
        &mut self,
        events: &[Event],
        look: &mut dyn FnMut(&Pc, &Decoded),
    ) -> Result<Path, LabError> {
        let mut run = Run::new(self, events, Gear::Step)?;
        let mut path = Path::default();
        let mut counts = HashMap::<u64, u32>::new();
        counts.insert(run.lab.start().addr, 1);
        let (mut reads, mut cr2_reads) = (Vec::new(), Vec::new());
        // Where a fault is to return to, while its handler runs.
        let mut faulted: Option<(u64, u64)> = None;
        let mut frame = 0;
        // Without a stack of its own an NMI's frame is never overwritten by the next one's.
        let on_ist = run.lab.pc.interrupt_stack(2)?.is_some();
        let mut factory = InstructionInfoFactory::new();
        loop {
            let step = if run.deliverable() {
                let step = run.deliver()?;
                path.deliveries.push(path.visits.len());
                frame = run.lab.pc.state().regs.rsp;
                step
            } else if run.faults {
                let regs = &run.lab.pc.state().regs;
                faulted = faulted.or(Some((regs.rip, regs.rsp)));
                run.fault()?
            } else {
                run.step()?
            };
            let name = || run.lab.show_schedule(events);
            match step {
                Step::Over(verdict) => return Err(LabError::Single(name(), verdict.to_string())),
                Step::Home => break,
                Step::On if run.delivered > 0 && run.is_home() && !run.deliverable() => break,
                Step::On => {}
            }
            if path.visits.len() > LONGEST {
                return Err(LabError::Single(name(), format!("it has not ended after {LONGEST} instructions")));
            }
            let addr = run.lab.pc.rip();
            let n = counts.entry(addr).or_default();
            *n += 1;
            let (blocked, regs) = (run.blocked(), run.lab.pc.state().regs);
            let (rsp, rflags) = (regs.rsp, regs.rflags);
            path.visits.push(Visit {
                at: At { addr, n: *n },
                blocked,
                rsp,
                rflags,
                gs: run.lab.pc.state().sregs.gs.base,
                user: run.lab.pc.state().sregs.cs.selector & 3 == 3,
                frame_read_at: None,
                save_read_at: None,
                saved_cr2: false,
            });
            faulted = faulted.filter(|back| *back != (addr, rsp));
            let d = run.lab.pc.next_instruction();
            cr2_reads.push(match faulted {
                Some(_) => Cr2::Fault,
                None if d.is_some_and(|d| reads_cr2(&d)) => Cr2::Read,
                None => Cr2::Other,
            });
            if let Some(d) = &d {
                look(&run.lab.pc, d);
            }
            let mut reads_from = |start: u64, len: u64| {
                on_ist && d.is_some_and(|d| reads_memory(&run.lab.pc, &d, start..start.wrapping_add(len), &mut factory))
            };
            reads.push((reads_from(frame, 40), reads_from(frame.wrapping_sub(8), 8)));
            run.restart_clock()?;
        }
        path.mark_frames(&reads);
        path.mark_cr2(&cr2_reads);
        Ok(path)
    }
}

impl Path {
    /// The first boundary after the entry code, where the frame is no longer read: in the
    /// handler's C code.
    pub fn in_handler(&self, entry: &EntryPath) -> Option<At> {
        let found = self.visits.iter().find(|v| v.frame_read_at.is_none() && !entry.contains(v.at.addr));
        found.map(|v| v.at)
    }

    /// The first boundary in the handler's C code, or in that of a fault of it, where NMIs are
    /// not blocked.
    pub fn open_in_handler(&self, entry: &EntryPath) -> Option<At> {
        let open = |v: &&Visit| !v.blocked && v.frame_read_at.is_none() && !entry.contains(v.at.addr);
        self.visits.iter().find(open).map(|v| v.at)
    }

    /// What the handler's C code may rely on, and does not find: the ABI's flags, and that
    /// no interrupt comes.
    pub fn wrong_flags(&self, entry: &EntryPath) -> Option<String> {
        const RELIED_ON: [(u64, &str); 4] =
            [(rflags::DF, "DF"), (rflags::TF, "TF"), (rflags::NT, "NT"), (rflags::IF, "IF")];
        let at = self.in_handler(entry)?;
        let flags = self.visits.iter().find(|v| v.at == at)?.rflags;
        let set = RELIED_ON.iter().find(|(bit, _)| flags & bit != 0);
        set.map(|(_, name)| format!("the handler's C code runs with {name} set"))
    }

    /// What is wrong with the GS base where the handler's C code begins, at `code`.
    pub fn wrong_gs(&self, code: u64, expected: HandlerGs) -> Option<String> {
        let Some(visit) = self.visits.iter().find(|v| v.at.addr == code) else {
            return Some("the handler's C code is not come to, so nothing is known of its GS base".into());
        };
        let runs = format!("the handler's C code runs with GS base {:#x}", visit.gs);
        match expected {
            HandlerGs::Is(kernel) if visit.gs != kernel => Some(format!("{runs}, and the kernel's is {kernel:#x}")),
            HandlerGs::IsNot(user) if visit.gs == user => Some(format!("{runs}, which is the user's")),
            _ => None,
        }
    }

    /// The handler may fault where it has saved CR2 and will look at it again. Its first read
    /// is the one that saves it, each time that it runs.
    fn mark_cr2(&mut self, reads: &[Cr2]) {
        let Some(first) = reads.iter().position(|r| *r == Cr2::Read) else { return };
        let saves = self.visits[first].at.addr;
        let mut restores = false;
        for i in (first + 1..self.visits.len()).rev() {
            if reads[i] == Cr2::Read {
                restores = self.visits[i].at.addr != saves;
            }
            self.visits[i].saved_cr2 = restores && reads[i] != Cr2::Fault;
        }
    }

    /// Instructions at which nothing will read the hardware's frame any more, nor the word beneath
    /// it, each time that execution stands there.
    pub(super) fn without_frame(&self) -> std::collections::HashSet<u64> {
        let needs = |v: &&Visit| v.frame_read_at.is_some() || v.save_read_at.is_some();
        let needed: std::collections::HashSet<u64> = self.visits.iter().filter(needs).map(|v| v.at.addr).collect();
        self.visits.iter().map(|v| v.at.addr).filter(|at| !needed.contains(at)).collect()
    }

    /// The boundaries where the handler may fault.
    pub fn may_fault(&self) -> impl Iterator<Item = At> + '_ {
        self.visits.iter().filter(|v| v.saved_cr2 && v.frame_read_at.is_none()).map(|v| v.at)
    }

    /// Carries each frame's last read back to the boundaries before it, as far as the
    /// delivery that wrote the frame.
    fn mark_frames(&mut self, reads: &[(bool, bool)]) {
        let (mut frame, mut save) = (None, None);
        for i in (0..self.visits.len()).rev() {
            let here = self.visits[i].at.addr;
            frame = frame.or(reads[i].0.then_some(here));
            save = save.or(reads[i].1.then_some(here));
            (self.visits[i].frame_read_at, self.visits[i].save_read_at) = (frame, save);
            if self.deliveries.contains(&i) {
                (frame, save) = (None, None);
            }
        }
    }
}

/// What an instruction of a path has to do with CR2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cr2 {
    /// It is the handler's own, and reads it: to save it, or to see whether it changed.
    Read,
    /// It is of a fault's handler, which has a CR2 of its own.
    Fault,
    Other,
}

fn reads_cr2(d: &Decoded) -> bool {
    use iced_x86::{Mnemonic, Register};
    d.insn.mnemonic() == Mnemonic::Mov && d.insn.op1_register() == Register::CR2
}

/// Whether an instruction reads from `range`.
fn reads_memory(pc: &Pc, d: &Decoded, range: std::ops::Range<u64>, factory: &mut InstructionInfoFactory) -> bool {
    let overlaps = |at: u64, len: u64| at < range.end && at.wrapping_add(len) > range.start;
    if d.flow == Flow::Iret {
        return overlaps(pc.state().regs.rsp, 40);
    }
    let read =
        |a: OpAccess| matches!(a, OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead | OpAccess::ReadCondWrite);
    let info = factory.info(&d.insn);
    info.used_memory().iter().filter(|m| read(m.access())).any(|m| {
        let (regs, len) = (&pc.state().regs, m.memory_size().size().max(1) as u64);
        let at = m.virtual_address(0, |reg, _, _| pc.register(reg));
        let all = at.map(|at| d.extent((at, len), regs.rcx, regs.rflags));
        all.is_some_and(|(at, len)| overlaps(at, len))
    })
}
