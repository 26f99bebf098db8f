//! What the NMI's own code makes of the context that it interrupts, as far as is known:
//! which of its values matter, and which are only carried around and given back.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::cpu::{Regs, Segment};
use iced_x86::ConditionCode;

use super::footprint::{WordSet, has, insert};
use crate::image::Flow;
use crate::image::code::holds;
use crate::inject::Session;
use crate::machine::paging;

/// CF, PF, AF, ZF, SF, OF.
pub const STATUS: u64 = 0x8d5;
/// ID, which does nothing but be there: in a twin it marks every copy of the flags.
pub const ID: u64 = 1 << 21;
/// The status flags in a twin: a pattern that code seldom makes.
const TWIN_STATUS: u64 = 0x811;
/// General registers, RSP apart.
pub const REGISTERS: usize = 15;

/// The general registers but RSP, in the order of their numbers here.
pub fn registers(regs: &mut Regs) -> [&mut u64; REGISTERS] {
    let r = regs;
    [
        &mut r.rax, &mut r.rbx, &mut r.rcx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp, &mut r.r8, &mut r.r9,
        &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13, &mut r.r14, &mut r.r15,
    ]
}

/// What register `i` holds in a twin: no address, and no value that code would make.
pub fn pattern(i: usize) -> u64 {
    0x4c00_5eed_0000_0000 | (i as u64 + 1).wrapping_mul(0x9e37_79b1) & 0xffff_ffff
}

/// Whether `value` is a copy of a twin's flags, or of those that its handler has.
pub fn is_flags(value: u64) -> bool {
    value >> 22 == 0 && value & (ID | 2) == ID | 2 && value & 0x8028 == 0
}

/// A value of the interrupted context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// A general register's.
    Register(usize),
    /// RIP's.
    Rip,
    /// RSP's, plus so many bytes.
    Rsp(i64),
    /// That of RFLAGS, status flags and ID; the others always matter.
    Flags,
}

/// A comparison of RIP or RSP with something else, on which a branch hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// What is compared.
    pub token: Token,
    /// With what.
    pub other: u64,
    /// The token is the second operand.
    pub second: bool,
    /// TEST (and) rather than CMP (minus).
    pub ands: bool,
    /// The branch's condition.
    pub condition: ConditionCode,
}

impl Test {
    /// Whether the branch is taken where the token's register holds `value`.
    fn outcome(&self, value: u64) -> bool {
        let value = match self.token {
            Token::Rsp(add) => value.wrapping_add_signed(add),
            _ => value,
        };
        let (a, b) = if self.second { (self.other, value) } else { (value, self.other) };
        holds(self.condition, if self.ands { and_flags(a, b) } else { cmp_flags(a, b) }).unwrap_or(false)
    }
}

fn result_flags(result: u64) -> u64 {
    let parity = (result as u8).count_ones().is_multiple_of(2);
    u64::from(parity) << 2 | u64::from(result == 0) << 6 | (result >> 63) << 7
}

fn and_flags(a: u64, b: u64) -> u64 {
    result_flags(a & b)
}

/// RFLAGS behind `cmp` of two 64-bit values, AF apart, which no branch looks at.
fn cmp_flags(a: u64, b: u64) -> u64 {
    let (result, borrow) = a.overflowing_sub(b);
    let overflow = ((a ^ b) & (a ^ result)) >> 63;
    result_flags(result) | u64::from(borrow) | overflow << 11
}

/// What matters. It only ever grows, until a search has found nothing to add.
pub struct Needs {
    registers: u16,
    rip: bool,
    rsp: bool,
    flags: bool,
    /// Stacks, by number, on which the interrupted RSP matters.
    rsp_on: u64,
    /// Words of the writable pages.
    words: WordSet,
    /// What the CPU and the oracle read without being asked to: the descriptor tables, and words
    /// that are declared idle.
    always: WordSet,
    /// Those, and what was read or written since [`Self::begin_chain`], stacks apart.
    touched: WordSet,
    tests: BTreeSet<Test>,
    grew: bool,
    /// Instructions that episodes execute. A context that stands at one keeps its RIP: it
    /// could not be told from the episode's own.
    executed: HashSet<u64>,
    /// Which RIP stands for all that are like it, and which RSP.
    rips: HashMap<(u64, Vec<bool>), u64>,
    rsps: HashMap<(u64, Vec<bool>), u64>,
}

impl Needs {
    /// Nothing known but what is always read.
    pub fn new(session: &Session) -> Self {
        let words = session.machine().pages().len() * 512 / 64;
        let mut out = Self {
            registers: 0,
            rip: false,
            rsp: false,
            flags: false,
            rsp_on: 0,
            words: vec![0; words],
            always: vec![0; words],
            touched: vec![0; words],
            tests: BTreeSet::new(),
            grew: false,
            executed: HashSet::new(),
            rips: HashMap::new(),
            rsps: HashMap::new(),
        };
        let (rules, sregs) = (session.rules(), &session.machine().state().sregs);
        let table = |base: u64, limit: u64| base..base + limit + 1;
        let segment = |s: &Segment| (s.unusable == 0).then(|| table(s.base, s.limit.into()));
        let tables = [
            Some(table(sregs.gdt.base, sregs.gdt.limit.into())),
            Some(table(sregs.idt.base, sregs.idt.limit.into())),
            segment(&sregs.tr),
            segment(&sregs.ldt),
        ];
        for range in tables.into_iter().flatten().chain(rules.scheme.idle.iter().cloned()) {
            for addr in range.step_by(8) {
                out.memory(session, addr);
            }
        }
        out.always.clone_from(&out.touched);
        out
    }

    /// A chain begins: what it touches is to be known.
    pub fn begin_chain(&mut self) {
        self.touched.clone_from(&self.always);
    }

    /// Words that the chain read or wrote, those of stacks apart, and those that are always read.
    pub fn touched(&self) -> &WordSet {
        &self.touched
    }

    /// Whether anything was added since the last call.
    pub fn take_grew(&mut self) -> bool {
        std::mem::take(&mut self.grew)
    }

    /// A value of the context matters.
    pub fn value(&mut self, token: Token) {
        let known = match token {
            Token::Register(i) => {
                let known = self.registers >> i & 1 != 0;
                self.registers |= 1 << i;
                known
            }
            Token::Rip => std::mem::replace(&mut self.rip, true),
            Token::Rsp(_) => std::mem::replace(&mut self.rsp, true),
            // Without the mark, what flags owe to a stack pointer cannot be told any more.
            Token::Flags => std::mem::replace(&mut self.flags, true) & std::mem::replace(&mut self.rsp, true),
        };
        if !known {
            log::debug!("{token:?} of the interrupted context matters");
            self.grew = true;
        }
    }

    /// Whether the status flags matter.
    pub fn has_flags(&self) -> bool {
        self.flags
    }

    /// Whether register `i` matters.
    pub fn has_register(&self, i: usize) -> bool {
        self.registers >> i & 1 != 0
    }

    /// An episode executes the instruction at `rip`.
    pub fn executes(&mut self, rip: u64) {
        if self.executed.insert(rip) {
            self.grew |= self.rips.values().any(|r| *r == rip);
        }
    }

    /// Whether a context's RIP is told from what an episode makes of its own.
    pub fn tells_rip(&self, rip: u64) -> bool {
        !self.rip && !self.executed.contains(&rip)
    }

    /// Everything matters: for an instruction that nothing is known of.
    pub fn everything(&mut self) {
        (0..REGISTERS).for_each(|i| self.value(Token::Register(i)));
        [Token::Rip, Token::Rsp(0), Token::Flags].into_iter().for_each(|t| self.value(t));
    }

    /// RSP matters where it lies on this stack.
    pub fn rsp_on(&mut self, stack: usize) {
        self.grew |= self.rsp_on >> stack & 1 == 0;
        self.rsp_on |= 1 << stack;
    }

    /// A branch hangs on a comparison.
    pub fn test(&mut self, test: Test) {
        self.grew |= self.tests.insert(test);
    }

    /// The word of memory at `addr` matters, and the page tables that lead to it.
    pub fn memory(&mut self, session: &Session, addr: u64) {
        self.tables(session, addr);
        let m = session.machine();
        if let Some(paddr) = paging::translate(m.memory().0, m.state().sregs.cr3, addr) {
            self.physical(m.pages(), paddr);
        }
    }

    /// The page tables that lead to `addr` matter.
    pub fn tables(&mut self, session: &Session, addr: u64) {
        let m = session.machine();
        for entry in paging::walk(m.memory().0, m.state().sregs.cr3, addr) {
            self.physical(m.pages(), entry);
        }
    }

    fn physical(&mut self, pages: &[u64], paddr: u64) {
        let Some(page) = pages.iter().position(|p| *p == paddr & !4095) else { return };
        let word = page * 512 + (paddr & 4095) as usize / 8;
        self.grew |= insert(&mut self.words, word);
        insert(&mut self.touched, word);
    }

    /// Whether a word of the writable pages matters.
    pub fn has_word(&self, index: usize) -> bool {
        has(&self.words, index)
    }

    /// Makes registers those of the context's twin: whatever does not matter is the same
    /// in all twins, and no two such values are equal.
    pub fn twin(&mut self, regs: &mut Regs, cpl: u8, session: &Session) {
        let known = self.registers;
        for (i, register) in registers(regs).into_iter().enumerate().filter(|(i, _)| known >> i & 1 == 0) {
            *register = pattern(i);
        }
        if !self.flags {
            regs.rflags = regs.rflags & !STATUS | TWIN_STATUS | ID;
        }
        if !self.rip {
            let at_handler = session.machine().idt().vector_of(regs.rip);
            let kind = u64::from(cpl) | at_handler.map_or(0, |v| u64::from(v) + 1) << 2;
            let like = (kind, self.outcomes(Token::Rip, regs.rip));
            let known = self.rips.get(&like).copied().filter(|rip| self.tells_rip(*rip));
            let own = Some(regs.rip).filter(|rip| self.tells_rip(*rip));
            if let Some(rip) = known.or(own).or_else(|| self.elsewhere(regs.rip, &like.1, session)) {
                regs.rip = rip;
                self.rips.insert(like, rip);
            }
        }
        let stacks = &session.rules().guest.image.declared.stacks;
        let on = stacks.iter().position(|s| s.range.start < regs.rsp && regs.rsp <= s.range.end);
        if let Some(stack) = on.filter(|i| !self.rsp && cpl == 0 && self.rsp_on >> i & 1 == 0) {
            let kind = (stack as u64) << 4 | regs.rsp & 15;
            // The lowest has the least room below.
            let outcomes = self.outcomes(Token::Rsp(0), regs.rsp);
            let stand_in = self.rsps.entry((kind, outcomes)).or_insert(regs.rsp);
            *stand_in = regs.rsp.min(*stand_in);
            regs.rsp = *stand_in;
        }
    }

    /// Code that no episode executes, for a context that stands in code that they do: in the
    /// same half of the address space, and no handler's first instruction either.
    fn elsewhere(&self, rip: u64, outcomes: &[bool], session: &Session) -> Option<u64> {
        let idt = session.machine().idt();
        let plain = |other: &u64| (other ^ rip) >> 47 == 0 && idt.vector_of(*other).is_none();
        if idt.vector_of(rip).is_some() {
            return None;
        }
        let code = session.rules().guest.code.iter().filter(|d| d.flow != Flow::Halt);
        let mut code = code.map(|d| d.insn.ip()).filter(plain);
        code.find(|rip| self.tells_rip(*rip) && self.outcomes(Token::Rip, *rip) == outcomes)
    }

    fn outcomes(&self, of: Token, value: u64) -> Vec<bool> {
        let same = |t: &&Test| std::mem::discriminant(&t.token) == std::mem::discriminant(&of);
        self.tests.iter().filter(same).map(|t| t.outcome(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_comes_to_what_the_cpu_says() {
        let test = |token, other, second, ands, condition| Test { token, other, second, ands, condition };
        let below = test(Token::Rip, 100, false, false, ConditionCode::b);
        assert!(below.outcome(99) && !below.outcome(100));
        let above = test(Token::Rsp(-8), 100, true, false, ConditionCode::a);
        assert!(above.outcome(107) && !above.outcome(108));
        let less = test(Token::Rip, 1, false, false, ConditionCode::l);
        assert!(less.outcome(u64::MAX) && less.outcome(1 << 63) && !less.outcome(1));
        let bit = test(Token::Rip, 1 << 10, false, true, ConditionCode::e);
        assert!(bit.outcome(0x3ff) && !bit.outcome(0x400));
    }

    #[test]
    fn all_patterns_differ() {
        let all: BTreeSet<u64> = (0..REGISTERS).map(pattern).collect();
        assert_eq!(all.len(), REGISTERS);
    }
}
