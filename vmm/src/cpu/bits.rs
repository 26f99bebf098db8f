//! Bit tests and scans, and whole bytes by a condition (SDM vol. 1, 7.3.7).

use super::Condition;
use super::decode::{Bit, Decoded, Operand};
use super::end::{NotUnderstood, Run};
use super::exec::Exec;
use super::flags::{ARITHMETIC, of_result, when};
use super::memory::Memory;
use super::rflags::{CF, PF, ZF};
use super::trace::Provenance;
use super::value::{Val, ones, sign_extend};

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// BT, BTS, BTR, BTC. A bit offset in a register reaches beyond the operand in memory.
    pub fn bit(&mut self, op: Bit, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let offset = self.get(d, d.b)?;
        let offset = self.look(offset);
        let bit = offset & (8 * size as u64 - 1);
        let in_memory = match d.a {
            Operand::Mem { .. } => {
                let mut mem = d.mem;
                if let Operand::Reg { .. } = d.b {
                    let words = (sign_extend(offset, size) as i64) >> (8 * size).trailing_zeros();
                    mem.disp = mem.disp.wrapping_add((words as u64).wrapping_mul(size as u64));
                }
                Some(self.linear(&mem))
            }
            _ => None,
        };
        let a = match in_memory {
            Some(at) if op == Bit::Test => self.load(at, size, d.mem.stack)?,
            Some(at) => self.load_to_change(at, size, d.mem.stack)?,
            None => self.get(d, d.a)?,
        };
        let mask = 1u64 << bit;
        let r = match op {
            Bit::Test => a.v,
            Bit::Set => a.v | mask,
            Bit::Reset => a.v & !mask,
            Bit::Complement => a.v ^ mask,
        };
        let depends = if op == Bit::Complement { ones(size) } else { ones(size) & !mask };
        let other = self.p.derive(&[(a.w, depends)]);
        let new = Val { v: r, w: P::keep(&a.w, !mask, &other) };
        match in_memory {
            _ if op == Bit::Test => {}
            Some(at) => self.store(at, size, new, d.mem.stack)?,
            None => self.set(d, d.a, new)?,
        }
        let result = self.p.derive(&[(a.w, mask)]);
        self.put_flags(CF, when(a.v & mask != 0, CF));
        self.cpu.undefined |= ARITHMETIC & !(CF | ZF);
        self.p.derive_flags(CF, &result);
        Ok(())
    }

    /// BSF, BSR. The destination stays where the source is zero.
    pub fn scan(&mut self, reverse: bool, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let b = self.get(d, d.b)?;
        let w = self.p.derive(&[(b.w, ones(size))]);
        let found = match (b.v, reverse) {
            (0, _) => None,
            (v, true) => Some(63 - u64::from(v.leading_zeros())),
            (v, false) => Some(v.trailing_zeros().into()),
        };
        if let Some(found) = found {
            // Whether it is zero decides what is written.
            self.p.look(&w, u64::MAX);
            self.set(d, d.a, Val::known(found))?;
        } else {
            if size == 4 {
                return Err(NotUnderstood::Undefined("the upper half after a scan of zero by 32 bits").into());
            }
            self.look(b);
        }
        let keep = if self.undefined().scan_keeps { ARITHMETIC & !ZF } else { 0 };
        let parity = of_result(found.unwrap_or(0), size) & PF;
        self.computed_flags(when(found.is_none(), ZF) | parity, keep, ARITHMETIC & !ZF, &w);
        Ok(())
    }

    /// SETcc.
    pub fn set_on(&mut self, condition: Condition, d: &Decoded) -> Run<()> {
        let held = self.holds(condition)?;
        self.set(d, d.a, Val::known(held.into()))
    }

    /// CMOVcc: the source is read, and a 32-bit destination zero-extended, in any case.
    pub fn move_on(&mut self, condition: Condition, d: &Decoded) -> Run<()> {
        let b = self.get(d, d.b)?;
        let held = self.holds(condition)?;
        let v = if held { b } else { self.get(d, d.a)? };
        self.set(d, d.a, v)
    }
}
