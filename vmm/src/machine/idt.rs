//! The guest's interrupt descriptor table, as the guest has set it up.

use super::memory::GuestMemory;
use super::paging::translate;
use crate::cpu::Table;
use crate::kvm::VcpuState;

const HLT: u8 = 0xf4;

/// Where each vector leads.
#[derive(Clone, Debug, Default)]
pub struct Idt {
    /// `(handler, vector)` of the vectors whose handler is code, by handler.
    handlers: Vec<(u64, u8)>,
    /// `(handler, vector)` of those that lead to a HLT: undeclared ones.
    stubs: Vec<(u64, u8)>,
    /// `(vector, IST)` of those with a stack of their own.
    ists: Vec<(u8, u8)>,
    /// What it was read from: where IDTR says it lies, and what lies there.
    register: Table,
    bytes: Vec<u8>,
    /// The physical pages that hold it.
    pages: [Option<u64>; 2],
}

impl Idt {
    /// Reads the table that `state` names (SDM vol. 3, 6.14.1).
    pub fn read(mem: GuestMemory, state: &VcpuState) -> Self {
        let mut out = Self {
            register: state.sregs.idt,
            bytes: pieces(mem, state).collect::<Vec<_>>().concat(),
            ..Self::default()
        };
        let page = |at: u64| translate(mem.0, state.sregs.cr3, at).map(|p| p & !4095);
        let Table { base, limit } = state.sregs.idt;
        out.pages = [page(base), page(base.wrapping_add(limit.min(4095).into()))];
        let (base, limit) = (state.sregs.idt.base, u64::from(state.sregs.idt.limit));
        for vector in 0..=255u8 {
            let offset = u64::from(vector) * 16;
            if offset + 15 > limit {
                break;
            }
            let Some([low, high]) = mem.words::<2>(state.sregs.cr3, base + offset) else { continue };
            if low >> 47 & 1 == 0 {
                continue; // not present
            }
            let handler = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
            if low >> 32 & 7 != 0 {
                out.ists.push((vector, (low >> 32 & 7) as u8));
            }
            let mut first = [0];
            if !mem.read(state.sregs.cr3, handler, &mut first) {
                continue;
            }
            let list = if first[0] == HLT { &mut out.stubs } else { &mut out.handlers };
            list.push((handler, vector));
        }
        out.handlers.sort_unstable();
        out.stubs.sort_unstable();
        out
    }

    /// Whether IDTR and what it leads to are still what was read.
    pub fn is_current(&self, mem: GuestMemory, state: &VcpuState) -> bool {
        let mut rest = &self.bytes[..];
        let mut is_next = |piece: &[u8]| rest.strip_prefix(piece).map(|after| rest = after).is_some();
        self.register == state.sregs.idt && pieces(mem, state).all(&mut is_next) && rest.is_empty()
    }

    /// Whether IDTR is still what it was.
    pub fn is_at(&self, register: &Table) -> bool {
        self.register == *register
    }

    /// The physical pages that hold the table.
    pub fn pages(&self) -> &[Option<u64>; 2] {
        &self.pages
    }

    /// Whether no vector leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.stubs.is_empty()
    }

    /// The number of the stack that `vector`'s gate names; 0: none.
    pub fn ist(&self, vector: u8) -> u8 {
        self.ists.iter().find(|(v, _)| *v == vector).map_or(0, |(_, ist)| *ist)
    }

    /// Where vector `vector` leads, if to code.
    pub fn handler(&self, vector: u8) -> Option<u64> {
        self.handlers.iter().find(|(_, v)| *v == vector).map(|(h, _)| *h)
    }

    /// The first instructions of all handlers that are code.
    pub fn handlers(&self) -> impl Iterator<Item = u64> {
        self.handlers.iter().map(|(h, _)| *h)
    }

    /// The vector whose handler begins at `addr`.
    pub fn vector_of(&self, addr: u64) -> Option<u8> {
        lookup(&self.handlers, addr)
    }

    /// The undeclared vector whose HLT stub stands at `addr`.
    pub fn stub_vector(&self, addr: u64) -> Option<u8> {
        lookup(&self.stubs, addr)
    }

    /// Some HLT that is no handler's first instruction, where there is one.
    pub fn some_stub(&self) -> Option<u64> {
        self.stubs.first().map(|(h, _)| *h)
    }
}

/// The table's bytes, page by page; from a page that is not mapped on, none.
fn pieces<'a>(mem: GuestMemory<'a>, state: &VcpuState) -> impl Iterator<Item = &'a [u8]> {
    let Table { base, limit } = state.sregs.idt;
    let (cr3, end) = (state.sregs.cr3, base.wrapping_add(u64::from(limit.min(4095)) + 1));
    let mut at = base;
    std::iter::from_fn(move || {
        let from = (at != end).then_some(at)?;
        let to = (from | 4095).wrapping_add(1);
        at = if end.wrapping_sub(from) < to.wrapping_sub(from) { end } else { to };
        let here = translate(mem.0, cr3, from)? as usize;
        mem.0.get(here..here + at.wrapping_sub(from) as usize)
    })
}

fn lookup(list: &[(u64, u8)], addr: u64) -> Option<u8> {
    list.binary_search_by_key(&addr, |(h, _)| *h).ok().map(|i| list[i].1)
}
