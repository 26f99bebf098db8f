//! Looks at each instruction that an NMI's own code executes: what it does with values of
//! the interrupted context.
//!
//! Moving such a value, whole, does not look at it. Comparing RIP or RSP looks at no more
//! than the branch that follows. A stack pointer on whose stack the CPU has pushed the
//! frame may address memory and have constants added: all then happens as far from it
//! as ever. Whatever else reads a value makes it one that matters.
//!
//! Values are known by what they are: the twin's registers hold patterns that no code
//! makes, its flags have ID set, and so has every copy of them (`needs.rs`). A word that
//! is one by chance only makes more matter.
//!
//! Adding a constant to a stack pointer sets flags, of which PF alone depends on where the
//! stack is (all that are alike have the same lowest four bits). So PF may be saved and
//! loaded with the others, and what looks at it makes RSP matter.

use std::ops::Range;

use iced_x86::{InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits, UsedMemory};

use super::live::Liveness;
use super::needs::{Needs, REGISTERS, Test, Token, is_flags, pattern};
use super::operands::{Does, address, beyond_operands, ignored, leaves_status, reads, value};
use crate::image::{Decoded, Flow};
use crate::inject::Session;
use crate::machine::register;
use crate::oracle::Context;

const STATUS_BITS: u32 =
    RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF;

/// A value that was compared last, and its flags not yet overwritten.
#[derive(Clone, Copy)]
struct Compared {
    token: Token,
    other: u64,
    second: bool,
    ands: bool,
}

/// What the code of an image does with interrupted contexts.
pub struct Uses {
    /// What came out.
    pub needs: Needs,
    info: InstructionInfoFactory,
    /// Interrupted stacks that frames were pushed to.
    stacks: Vec<Range<u64>>,
    /// Flags that are the interrupted context's, or depend on its values.
    foreign: u32,
    compared: Option<Compared>,
    /// The instruction under way loads the context's flags, or its RIP: no harm where it
    /// ends the episode.
    loads: [Option<Token>; 2],
}

/// The interrupted context's values, as they are known.
struct Tokens {
    context: Context,
    /// Addresses that lie a constant from RSP: on a stack that the frame was pushed to.
    stack: Option<Range<u64>>,
}

impl Tokens {
    fn of(&self, value: u64, needs: &Needs) -> Option<Token> {
        if value == self.context.rip() && needs.tells_rip(value) {
            return Some(Token::Rip);
        }
        if is_flags(value) && !needs.has_flags() {
            return Some(Token::Flags);
        }
        let rsp = self.context.rsp();
        if value == rsp || self.stack.as_ref().is_some_and(|s| s.contains(&value)) {
            return Some(Token::Rsp(value.wrapping_sub(rsp) as i64));
        }
        (0..REGISTERS).find(|i| value == pattern(*i) && !needs.has_register(*i)).map(Token::Register)
    }
}

impl Uses {
    /// Nothing seen.
    pub fn new(session: &Session) -> Self {
        let needs = Needs::new(session);
        Self {
            needs,
            info: InstructionInfoFactory::new(),
            stacks: vec![],
            foreign: 0,
            compared: None,
            loads: [None; 2],
        }
    }

    fn tokens(&mut self, session: &Session) -> Option<Tokens> {
        let ghost = &session.oracle().ghost;
        let context = ghost.outer?;
        let (rsp, frame) = (context.rsp(), ghost.frames.outermost()?.addr);
        let stacks = &session.rules().guest.image.declared.stacks;
        let on = stacks.iter().position(|s| s.range.start < rsp && rsp <= s.range.end);
        let pushed_there = rsp.wrapping_sub(frame) <= 40 + 15 + 16;
        let same = on.filter(|i| stacks[*i].range.contains(&frame));
        if let Some(stack) = same.filter(|_| !pushed_there) {
            self.needs.rsp_on(stack); // an IST's stack, interrupted in its middle
        }
        let stack = same.filter(|_| pushed_there).map(|i| stacks[i].range.start..rsp);
        Some(Tokens { context, stack })
    }

    /// An NMI was delivered and none was live: the handler's flags are still those that it
    /// interrupted.
    pub fn interrupted(&mut self, session: &Session) {
        (self.foreign, self.compared) = (STATUS_BITS, None);
        if let Some(range) = self.tokens(session).and_then(|t| t.stack) {
            if !self.stacks.contains(&range) {
                self.stacks.push(range.clone());
            }
            for page in (range.start & !4095..range.end).step_by(4096) {
                self.needs.tables(session, page);
            }
        }
    }

    /// A round is over. Whether more matters than it took to. What an episode reads on a
    /// stack before it writes it lies at an address, not so far from the interrupted RSP.
    pub fn settle(&mut self, live: &Liveness) -> bool {
        if self.stacks.iter().any(|stack| live.is_entered_with_any(stack)) {
            self.needs.value(Token::Rsp(0));
        }
        self.needs.take_grew()
    }

    /// An instruction is about to be executed.
    pub fn before(&mut self, session: &Session) {
        let Some(tokens) = self.tokens(session) else { return };
        let m = session.machine();
        let (rip, rsp) = (m.rip(), m.state().regs.rsp);
        self.needs.executes(rip);
        let Some(d) = m.next_instruction() else { return self.needs.everything() };
        self.needs.tables(session, rip);
        self.needs.tables(session, rsp);
        self.flags(&d);
        self.registers(session, &d, &tokens);
        self.memory(session, &d, &tokens);
        if let Some((addr, bytes)) = beyond_operands(&d, &m.state().regs) {
            (addr & !7..addr + bytes).step_by(8).for_each(|at| self.place(session, at, &tokens));
        }
        let word = |at: u64| m.memory().word(m.state().sregs.cr3, at);
        let (target, flags) = match d.flow {
            Flow::Iret => (word(rsp), word(rsp.wrapping_add(16))),
            Flow::Return => (word(rsp), None),
            Flow::Indirect => (value(session, &d, 0), None),
            _ if d.insn.mnemonic() == Mnemonic::Popfq => (None, word(rsp)),
            _ => (None, None),
        };
        self.loads = [
            target.and_then(|v| tokens.of(v, &self.needs)),
            flags.filter(|v| *v == tokens.context.rflags()).map(|_| Token::Flags),
        ];
    }

    /// It was executed, or faulted.
    pub fn after(&mut self, session: &Session) {
        let m = session.machine();
        if session.oracle().ghost.outer.is_none() {
            return self.forget();
        }
        if m.idt().vector_of(m.rip()).is_some() {
            self.keep_flags(); // they were pushed
        }
        std::mem::take(&mut self.loads).into_iter().flatten().for_each(|t| self.needs.value(t));
    }

    /// The next boundary is a state of the search: it does not tell flags apart.
    pub fn at_state(&mut self, session: &Session) {
        match session.oracle().ghost.outer {
            Some(_) => self.keep_flags(),
            None => self.forget(),
        }
    }

    /// An edge begins at a state.
    pub fn forget(&mut self) {
        (self.foreign, self.compared, self.loads) = (0, None, [None; 2]);
    }

    /// Flags that are not only a branch's are read.
    fn keep_flags(&mut self) {
        if self.foreign != 0 {
            self.needs.value(self.compared.map_or(Token::Flags, |c| c.token));
        }
        self.forget();
    }

    fn flags(&mut self, d: &Decoded) {
        let saves = d.insn.mnemonic() == Mnemonic::Pushfq || d.flow == Flow::Trap;
        if d.insn.rflags_read() & RflagsBits::PF != 0 && !saves {
            self.needs.value(Token::Rsp(0));
        }
        if d.insn.rflags_read() & self.foreign != 0 {
            match self.compared {
                Some(c) if matches!(d.flow, Flow::Either(_)) => {
                    let Compared { token, other, second, ands } = c;
                    self.needs.test(Test { token, other, second, ands, condition: d.insn.condition_code() });
                }
                _ => self.keep_flags(),
            }
        }
        self.foreign &= !d.insn.rflags_modified();
        if self.foreign == 0 {
            self.compared = None;
        }
    }

    fn registers(&mut self, session: &Session, d: &Decoded, tokens: &Tokens) {
        let regs = &session.machine().state().regs;
        let does = Does::of(d);
        let info = self.info.info(&d.insn).clone();
        let is_address = |r: Register| info.used_memory().iter().any(|m| m.base() == r || m.index() == r);
        let operand = |r: Register| {
            (0..d.insn.op_count()).find(|i| d.insn.op_kind(*i) == OpKind::Register && d.insn.op_register(*i) == r)
        };
        for used in info.used_memory() {
            self.address(session, used, tokens);
        }
        for used in info.used_registers() {
            let (r, full) = (used.register(), used.register().full_register());
            if !r.is_gpr() {
                continue;
            }
            let Some(token) = register(regs, full).and_then(|v| tokens.of(v, &self.needs)) else { continue };
            let reads = reads(used.access());
            if !reads && r.size() >= 4 {
                continue; // overwritten whole
            }
            // Pushing and popping move RSP by a constant; an address was looked at.
            let stack = full == Register::RSP && (d.insn.is_stack_instruction() || d.flow == Flow::Iret);
            if stack || (is_address(full) && operand(r).is_none() && d.insn.mnemonic() != Mnemonic::Lea) {
                continue;
            }
            if ignored(d, full) {
                continue;
            }
            match (does, token) {
                (_, Token::Flags) if leaves_status(d) => {}
                _ if r.size() < 8 => self.needs.value(token),
                (Does::Moves, _) => {}
                (Does::Compares { ands }, _) => {
                    let i = operand(r).unwrap_or(0);
                    self.compares(session, d, tokens, token, i, ands);
                }
                (Does::Adds, Token::Rsp(_)) if tokens.stack.is_some() && self.adds_constant(session, d, tokens) => {}
                _ => self.needs.value(token),
            }
        }
    }

    /// Whether what comes out is as far from the interrupted RSP as the first operand was.
    fn adds_constant(&self, session: &Session, d: &Decoded, tokens: &Tokens) -> bool {
        let depends = |i| value(session, d, i).is_some_and(|v| tokens.of(v, &self.needs).is_some());
        match d.insn.mnemonic() {
            Mnemonic::Lea => d.insn.op0_register().size() == 8, // the index was looked at
            _ => depends(0) && !depends(1) && value(session, d, 1).is_some_and(|v| v.wrapping_add(0x1000) < 0x2000),
        }
    }

    /// A memory operand's address. Only one from the interrupted stack may depend on it.
    fn address(&mut self, session: &Session, used: &UsedMemory, tokens: &Tokens) {
        let regs = &session.machine().state().regs;
        for (r, is_base) in [(used.base(), true), (used.index(), false)] {
            match register(regs, r).and_then(|v| tokens.of(v, &self.needs)) {
                None => {}
                Some(Token::Rsp(_)) if is_base && tokens.stack.is_some() => {}
                Some(token) => self.needs.value(token),
            }
        }
    }

    fn memory(&mut self, session: &Session, d: &Decoded, tokens: &Tokens) {
        let m = session.machine();
        let (cr3, does) = (m.state().sregs.cr3, Does::of(d));
        let info = self.info.info(&d.insn).clone();
        for used in info.used_memory() {
            let Some(addr) = address(session, used) else {
                self.needs.everything();
                continue;
            };
            let (bytes, access) = (used.memory_size().size() as u64, used.access());
            if access == OpAccess::NoMemAccess {
                continue;
            }
            let whole = addr % 8 == 0 && bytes == 8;
            for at in (addr & !7..addr + bytes.max(1)).step_by(8) {
                self.place(session, at, tokens);
                let Some(word) = m.memory().word(cr3, at) else { continue };
                if !reads(access) && whole {
                    continue;
                }
                let moved = whole && (does == Does::Moves || d.insn.is_stack_instruction());
                match (tokens.of(word, &self.needs), does) {
                    (None, _) => {}
                    (Some(_), _) if moved => {}
                    (Some(Token::Flags), _) if leaves_status(d) => {}
                    (Some(token), Does::Compares { ands }) if whole => {
                        let i = (0..d.insn.op_count()).find(|i| d.insn.op_kind(*i) == OpKind::Memory).unwrap_or(0);
                        self.compares(session, d, tokens, token, i, ands);
                    }
                    (Some(token), _) => self.needs.value(token),
                }
            }
        }
    }

    /// The word at `at` is read or written. On a stack, liveness knows what is read; what
    /// belongs to the interrupted code, or is no stack, matters.
    fn place(&mut self, session: &Session, at: u64, tokens: &Tokens) {
        let stacks = &session.rules().guest.image.declared.stacks;
        let rsp = tokens.context.rsp();
        match stacks.iter().find(|s| s.range.contains(&at)) {
            None => {
                let m = session.machine();
                let word = m.memory().word(m.state().sregs.cr3, at);
                if word.is_some_and(|w| tokens.stack.as_ref().is_some_and(|s| s.contains(&w))) {
                    self.needs.value(Token::Rsp(0)); // it is not known how it came there
                }
                self.needs.memory(session, at);
            }
            // Of a stack that is scratch all over, nothing belongs to the interrupted code.
            Some(s)
                if s.range.contains(&(rsp.wrapping_sub(1)))
                    && at >= rsp
                    && session.rules().watched.has_any(&s.range) =>
            {
                self.needs.value(Token::Rsp(0));
                self.needs.memory(session, at);
            }
            Some(_) => self.needs.tables(session, at),
        }
    }

    fn compares(&mut self, session: &Session, d: &Decoded, tokens: &Tokens, token: Token, operand: u32, ands: bool) {
        let Some(other) = value(session, d, 1 - operand.min(1)) else { return self.needs.value(token) };
        match (token, tokens.of(other, &self.needs)) {
            (Token::Rsp(_), Some(Token::Rsp(_))) if tokens.stack.is_some() && !ands => {}
            (Token::Rip | Token::Rsp(_), None) => {
                self.foreign = STATUS_BITS;
                self.compared = Some(Compared { token, other, second: operand == 1, ands });
            }
            (_, other) => {
                self.needs.value(token);
                other.into_iter().for_each(|t| self.needs.value(t));
            }
        }
    }
}
