//! Descriptors and the segment registers (SDM vol. 3, 3.4 and 6.7).

use super::access::Want;
use super::end::{Run, Stop, coded, vector};
use super::exec::Exec;
use super::memory::{Kind, Memory};
use super::trace::{Provenance, Register};
use super::value::Val;
use super::{Segment, Sregs};

pub(super) const ES: u8 = 0;
pub(super) const CS: u8 = 1;
pub(super) const SS: u8 = 2;
pub(super) const DS: u8 = 3;
pub(super) const FS: u8 = 4;
pub(super) const GS: u8 = 5;

/// A descriptor of a code, data or system segment: its first eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub selector: u16,
    pub raw: u64,
    /// Its linear address.
    pub at: u64,
}

impl Descriptor {
    pub fn type_(self) -> u8 {
        (self.raw >> 40 & 0xf) as u8
    }
    pub fn is_segment(self) -> bool {
        self.raw >> 44 & 1 == 1
    }
    pub fn is_code(self) -> bool {
        self.is_segment() && self.type_() & 8 != 0
    }
    pub fn is_conforming(self) -> bool {
        self.is_code() && self.type_() & 4 != 0
    }
    pub fn is_writable_data(self) -> bool {
        self.is_segment() && self.type_() & 0xa == 2
    }
    pub fn is_readable(self) -> bool {
        self.is_segment() && self.type_() & 0xa != 8
    }
    pub fn dpl(self) -> u8 {
        (self.raw >> 45 & 3) as u8
    }
    pub fn is_present(self) -> bool {
        self.raw >> 47 & 1 == 1
    }
    pub fn is_long(self) -> bool {
        self.raw >> 53 & 1 == 1
    }
    pub fn is_big(self) -> bool {
        self.raw >> 54 & 1 == 1
    }
    pub fn rpl(self) -> u8 {
        (self.selector & 3) as u8
    }

    /// The hidden part that it loads; `selector` as the visible one.
    pub fn segment(self, selector: u16) -> Segment {
        let bit = |n: u32| (self.raw >> n & 1) as u8;
        let limit = (self.raw & 0xffff | self.raw >> 32 & 0xf_0000) as u32;
        Segment {
            base: self.raw >> 16 & 0xff_ffff | self.raw >> 32 & 0xff00_0000,
            limit: if bit(55) == 1 { limit << 12 | 0xfff } else { limit },
            selector,
            type_: self.type_(),
            present: bit(47),
            dpl: self.dpl(),
            db: bit(54),
            s: bit(44),
            l: bit(53),
            g: bit(55),
            avl: bit(52),
            unusable: 0,
        }
    }
}

impl Segment {
    /// Whether code at `cpl` may not use what this data segment register holds.
    pub(super) fn is_beyond(&self, cpl: u8) -> bool {
        let conforming = self.s == 1 && self.type_ & 0xc == 0xc;
        self.unusable == 0 && self.dpl < cpl && !conforming
    }
}

impl Sregs {
    /// Makes ES, DS, FS and GS null where `cpl` may not use them, as a return to an outer level
    /// does (SDM vol. 2, IRET). Whether it had to.
    pub fn drop_segments(&mut self, cpl: u8) -> bool {
        let mut dropped = false;
        for segment in [&mut self.es, &mut self.ds, &mut self.fs, &mut self.gs] {
            if segment.is_beyond(cpl) {
                (*segment, dropped) = (null(0, 0), true);
            }
        }
        dropped
    }
}

/// What a null selector loads.
pub(super) fn null(selector: u16, dpl: u8) -> Segment {
    Segment { selector, dpl, unusable: 1, ..Segment::default() }
}

/// The hidden part that SYSCALL and SYSRET load (SDM vol. 2).
pub(super) fn flat(selector: u16, code: bool, dpl: u8, long: bool) -> Segment {
    Segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: if code { 0xb } else { 0x3 },
        present: 1,
        dpl,
        db: (!long).into(),
        s: 1,
        l: (code && long).into(),
        g: 1,
        avl: 0,
        unusable: 0,
    }
}

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// An exception about a selector.
    pub fn about(&self, vector: u8, selector: u16) -> Stop {
        coded(vector, u32::from(selector & 0xfffc) | self.ext)
    }

    /// The descriptor that a selector, not null, names; beyond its table's limit, the
    /// exception `vector`. It is looked at.
    pub fn descriptor(&mut self, selector: u16, vector: u8) -> Run<Descriptor> {
        let sregs = &self.cpu.sregs;
        let (base, limit) = match selector & 4 {
            0 => (sregs.gdt.base, u32::from(sregs.gdt.limit)),
            _ if sregs.ldt.unusable == 1 || sregs.ldt.present == 0 => return Err(self.about(vector, selector)),
            _ => (sregs.ldt.base, sregs.ldt.limit),
        };
        let offset = u32::from(selector & 0xfff8);
        if offset + 7 > limit {
            return Err(self.about(vector, selector));
        }
        let at = base.wrapping_add(offset.into());
        let raw = self.system_word(at, 8, Kind::Descriptor)?;
        Ok(Descriptor { selector, raw, at })
    }

    /// Reads a word of a table of the CPU's. It is looked at.
    pub fn system_word(&mut self, at: u64, size: usize, kind: Kind) -> Run<u64> {
        let v = self.read(at, size, false, Want::SYSTEM, kind)?;
        Ok(self.look(v))
    }

    /// Sets the accessed bit in a descriptor's memory, and gives the descriptor with it.
    pub fn accessed(&mut self, d: Descriptor) -> Run<Descriptor> {
        if d.raw >> 40 & 1 == 1 {
            return Ok(d);
        }
        let raw = d.raw | 1 << 40;
        self.write(d.at, 8, Val::known(raw), false, Want::SYSTEM_WRITE, Kind::Descriptor)?;
        Ok(Descriptor { raw, ..d })
    }

    /// A segment register by its number in the encoding.
    pub fn sreg(&mut self, n: u8) -> &mut Segment {
        let s = &mut self.cpu.sregs;
        match n {
            ES => &mut s.es,
            CS => &mut s.cs,
            SS => &mut s.ss,
            DS => &mut s.ds,
            FS => &mut s.fs,
            _ => &mut s.gs,
        }
    }

    /// Sets one. A base of FS or GS is then a constant.
    pub fn set_sreg(&mut self, n: u8, segment: Segment) {
        *self.sreg(n) = segment;
        match n {
            FS => self.p.set_register(Register::FsBase, P::KNOWN),
            GS => self.p.set_register(Register::GsBase, P::KNOWN),
            _ => {}
        }
    }

    /// Loads ES, SS, DS, FS or GS as MOV and POP do.
    pub fn load_segment(&mut self, n: u8, selector: u16) -> Run<()> {
        let segment = if n == SS {
            self.stack_segment(selector, self.cpu.cpl(), vector::GP)?
        } else {
            self.data_segment(selector)?
        };
        self.set_sreg(n, segment);
        Ok(())
    }

    fn data_segment(&mut self, selector: u16) -> Run<Segment> {
        if selector & 0xfffc == 0 {
            return Ok(null(selector, 0));
        }
        let d = self.descriptor(selector, vector::GP)?;
        let least = d.rpl().max(self.cpu.cpl());
        if !d.is_readable() || !d.is_conforming() && least > d.dpl() {
            return Err(self.about(vector::GP, selector));
        }
        if !d.is_present() {
            return Err(self.about(vector::NP, selector));
        }
        Ok(self.accessed(d)?.segment(selector))
    }

    /// What a load of SS gives for code that runs, or will run, at `cpl` in 64-bit mode.
    pub fn stack_segment(&mut self, selector: u16, cpl: u8, fault: u8) -> Run<Segment> {
        let rpl = (selector & 3) as u8;
        if selector & 0xfffc == 0 {
            let allowed = cpl != 3 && rpl == cpl;
            return if allowed { Ok(null(selector, cpl)) } else { Err(coded(vector::GP, self.ext)) };
        }
        let d = self.descriptor(selector, fault)?;
        if rpl != cpl || d.dpl() != cpl || !d.is_writable_data() {
            return Err(self.about(fault, selector));
        }
        if !d.is_present() {
            return Err(self.about(vector::SS, selector));
        }
        Ok(self.accessed(d)?.segment(selector))
    }
}
