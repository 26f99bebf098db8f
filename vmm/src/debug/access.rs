//! What each move of a run reads and writes, so that a watchpoint finds the last writer of a word.
//!
//! Two witnesses are asked. The instruction's operands say what it accesses, also where it writes
//! the value that was there before. And the writable memory is compared with what it was, which
//! shows all that no operand names: frames of NMIs and exceptions, and what the VMM writes for a
//! hypercall.

use iced_x86::{InstructionInfoFactory, OpAccess, Register};

use crate::cpu::{Regs, Sregs};
use crate::image::Decoded;
use crate::machine::paging::translate;
use crate::machine::{Machine, register};

/// Bytes of memory that a move read or wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The move, counted from 0 at *ready*.
    pub by: usize,
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// It wrote them.
    pub writes: bool,
    /// It read them.
    pub reads: bool,
}

/// Watches the memory of a machine from move to move.
pub struct Witness {
    /// The writable pages as they were at the last look.
    pages: Vec<u8>,
    info: InstructionInfoFactory,
}

/// What the next instruction is going to access.
pub struct Ahead(Vec<Access>);

impl Witness {
    /// Begins with what the memory holds now.
    pub fn new(machine: &Machine) -> Self {
        let mut pages = Vec::with_capacity(machine.pages().len() * 4096);
        for page in machine.pages() {
            pages.extend_from_slice(page_of(machine, *page));
        }
        Self { pages, info: InstructionInfoFactory::new() }
    }

    /// What the next instruction's operands name, before it is executed.
    pub fn ahead(&mut self, machine: &Machine) -> Ahead {
        let mut out = Vec::new();
        if let Some(next) = machine.next_instruction() {
            let state = machine.state();
            let place = |addr, len| physical(machine, addr, len);
            operands(&mut self.info, &next, (&state.regs, &state.sregs), place, &mut out);
        }
        Ahead(out)
    }

    /// The move `by` was made: adds what it accessed to `log`. `ahead` is `None` for a move that
    /// is no instruction.
    pub fn moved(&mut self, machine: &Machine, by: usize, ahead: Option<Ahead>, log: &mut Vec<Access>) {
        let begin = log.len();
        log.extend(ahead.into_iter().flat_map(|a| a.0).map(|access| Access { by, ..access }));
        for (page, was) in machine.pages().iter().zip(self.pages.chunks_exact_mut(4096)) {
            let now = page_of(machine, *page);
            if was == now {
                continue;
            }
            for (i, (old, new)) in was.chunks_exact(8).zip(now.chunks_exact(8)).enumerate() {
                let addr = page + 8 * i as u64;
                let told =
                    log[begin..].iter().any(|a| a.writes && a.addr <= addr && addr + 8 <= a.addr + u64::from(a.len));
                if old != new && !told {
                    // Byte by byte: a neighbour in the word is none of a narrow watchpoint's.
                    let (from, to) = differing(old, new);
                    log.push(Access { by, addr: addr + from, len: (to - from) as u32, writes: true, reads: false });
                }
            }
            was.copy_from_slice(now);
        }
    }

    /// An NMI's or exception's frame lies at `rsp` since the move `by`, whatever was there.
    pub fn pushed(&self, machine: &Machine, by: usize, rsp: u64, words: u64, log: &mut Vec<Access>) {
        let places = physical(machine, rsp, 8 * words);
        log.extend(places.into_iter().map(|(addr, len)| Access { by, addr, len, writes: true, reads: false }));
    }
}

/// The part of a word that differs: its first byte, and the one after its last.
fn differing(old: &[u8], new: &[u8]) -> (u64, u64) {
    let differs = |(a, b): (&u8, &u8)| a != b;
    let from = old.iter().zip(new).position(differs).unwrap_or(0);
    let to = old.iter().zip(new).rposition(differs).unwrap_or(7) + 1;
    (from as u64, to as u64)
}

/// Adds what an instruction's operands name, in the state before it is executed; `physical` says
/// where bytes lie in physical memory.
pub fn operands(
    info: &mut InstructionInfoFactory,
    next: &Decoded,
    (regs, sregs): (&Regs, &Sregs),
    physical: impl Fn(u64, u64) -> Vec<(u64, u32)>,
    out: &mut Vec<Access>,
) {
    let base = |reg: Register| match reg {
        Register::FS => Some(sregs.fs.base),
        Register::GS => Some(sregs.gs.base),
        reg if reg.is_segment_register() => Some(0),
        Register::RIP => Some(regs.rip),
        reg => register(regs, reg),
    };
    for used in info.info(&next.insn).used_memory() {
        let (writes, reads) = match used.access() {
            OpAccess::Read | OpAccess::CondRead => (false, true),
            OpAccess::Write | OpAccess::CondWrite => (true, false),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            OpAccess::None | OpAccess::NoMemAccess => continue,
        };
        let Some(vaddr) = used.virtual_address(0, |reg, _, _| base(reg)) else { continue };
        let (at, len) = next.extent((vaddr, used.memory_size().size() as u64), regs.rcx, regs.rflags);
        let places = physical(at, len);
        out.extend(places.into_iter().map(|(addr, len)| Access { by: 0, addr, len, writes, reads }));
    }
}

/// Where the bytes at `vaddr` lie now in physical memory: one piece for each page that is mapped.
pub fn physical(machine: &Machine, vaddr: u64, len: u64) -> Vec<(u64, u32)> {
    pieces(vaddr, len, |at| translate(machine.memory().0, machine.state().sregs.cr3, at))
}

/// Splits what lies at `addr` by pages, and asks for each piece where it lies.
pub fn pieces(addr: u64, len: u64, translate: impl Fn(u64) -> Option<u64>) -> Vec<(u64, u32)> {
    let (mut done, mut out) = (0, Vec::new());
    while done < len {
        let at = addr.wrapping_add(done);
        let piece = (4096 - at % 4096).min(len - done);
        done += piece;
        out.extend(translate(at).map(|paddr| (paddr, piece as u32)));
    }
    out
}

fn page_of(machine: &Machine, page: u64) -> &[u8] {
    // The pages are those of the machine's own memory.
    machine.memory().0.get(page as usize..page as usize + 4096).unwrap_or(&[0; 4096])
}
