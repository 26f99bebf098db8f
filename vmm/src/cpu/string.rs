//! String instructions (SDM vol. 1, 7.3.9), one iteration at a time.

use super::decode::{Base, Decoded, Rep, Str};
use super::end::{NotUnderstood, Run};
use super::exec::{AX, CX, DI, Exec, SI};
use super::flags::{self, ARITHMETIC};
use super::memory::Memory;
use super::rflags::{DF, ZF};
use super::trace::Provenance;
use super::value::{Val, ones};

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// One iteration. Returns whether the instruction repeats.
    pub fn string(&mut self, op: Str, d: &Decoded) -> Run<bool> {
        let size = usize::from(d.size);
        let wide = if d.mem.narrow { 4 } else { 8 };
        if d.rep != Rep::None {
            let count = self.part(CX, wide);
            if self.look(count) == 0 {
                if d.mem.narrow {
                    return Err(NotUnderstood::Undefined("the upper halves after a repetition of zero times").into());
                }
                return Ok(false);
            }
        }
        let back = self.look_flags(DF)? != 0;
        let step = if back { (size as u64).wrapping_neg() } else { size as u64 };
        let (uses_si, uses_di) = match op {
            Str::Movs | Str::Cmps => (true, true),
            Str::Lods => (true, false),
            Str::Stos | Str::Scas => (false, true),
        };
        let mut from = 0;
        if uses_si {
            let si = self.part(SI, wide);
            from = self.look(si).wrapping_add(self.base_of(d.mem.segment));
        }
        let mut to = 0;
        if uses_di {
            let di = self.part(DI, wide);
            to = self.look(di).wrapping_add(self.base_of(Base::None));
        }
        match op {
            Str::Movs => {
                let v = self.load(from, size, d.mem.stack)?;
                self.store(to, size, v, false)?;
            }
            Str::Stos => {
                let v = self.part(AX, size);
                self.store(to, size, v, false)?;
            }
            Str::Lods => {
                let v = self.load(from, size, d.mem.stack)?;
                self.set_part(AX, size, v);
            }
            Str::Cmps | Str::Scas => {
                let a = if op == Str::Cmps { self.load(from, size, d.mem.stack)? } else { self.part(AX, size) };
                let b = self.load(to, size, false)?;
                let (_, value) = flags::sub(a.v, b.v, 0, size);
                self.put_flags(ARITHMETIC, value);
                self.p.compare_flags(ARITHMETIC, size, (&a.w, a.v), (&b.w, b.v));
            }
        }
        if uses_si {
            self.advance(SI, step, wide);
        }
        if uses_di {
            self.advance(DI, step, wide);
        }
        if d.rep == Rep::None {
            return Ok(false);
        }
        let left = self.part(CX, wide).v.wrapping_sub(1) & ones(wide);
        self.set_part(CX, wide, Val::known(left));
        let tests = matches!(op, Str::Cmps | Str::Scas);
        let goes_on = !tests || (self.look_flags(ZF)? != 0) == (d.rep == Rep::Equal);
        Ok(left != 0 && goes_on)
    }

    fn advance(&mut self, n: u8, step: u64, wide: usize) {
        let v = self.gpr(n);
        let w = self.p.offset(&v.w, step);
        self.set_part(n, wide, Val { v: v.v.wrapping_add(step), w });
    }
}
