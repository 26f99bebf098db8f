//! Delivery of exceptions, interrupts and NMIs in IA-32e mode (SDM vol. 3, 7.12 and 7.14).

use super::access::{Want, is_canonical};
use super::end::{Delivered, End, Fault, Run, Stop, coded, plain, vector};
use super::exec::{Exec, SP};
use super::flags::when;
use super::memory::{Kind, Memory};
use super::rflags;
use super::segment::null;
use super::trace::{Provenance, Register};
use super::value::Val;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An exception reported before its instruction: RF is set in the frame.
    Fault,
    /// An exception reported after an instruction, or an abort.
    Trap,
    /// INT n and INT3: the gate's DPL counts.
    Software,
    /// From outside.
    External,
}

/// An event to deliver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub fault: Fault,
    pub source: Source,
}

impl Event {
    pub fn of(fault: Fault) -> Self {
        Self { fault, source: Source::Fault }
    }
}

/// Classes of exceptions (SDM vol. 3, table 7-4).
#[derive(PartialEq)]
enum Class {
    Benign,
    Contributory,
    Page,
    Double,
}

fn class(v: u8) -> Class {
    match v {
        vector::DE | vector::TS | vector::NP | vector::SS | vector::GP | 21 => Class::Contributory,
        vector::PF => Class::Page,
        vector::DF => Class::Double,
        _ => Class::Benign,
    }
}

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// Delivers an event whose frame returns to [`Exec::next`], and what its delivery raises.
    pub fn deliver(&mut self, mut event: Event) -> End {
        let before = *self.cpu;
        loop {
            let fault = event.fault;
            if let Some(cr2) = fault.cr2 {
                self.cpu.sregs.cr2 = cr2;
                self.p.set_register(Register::Cr2, P::KNOWN);
            }
            self.ext = (event.source != Source::Software).into();
            let second = match self.enter(event) {
                Ok(cleared_ac) => {
                    let Fault { vector, code, cr2 } = fault;
                    return End::Delivered(Delivered { vector, error_code: code, cr2, cleared_ac });
                }
                Err(Stop::Unknown(why)) => {
                    *self.cpu = before;
                    return End::NotUnderstood(why);
                }
                Err(Stop::Fault(second)) => second,
            };
            if event.source == Source::Software {
                // The instruction has not been executed: its frame points at it (SDM vol. 3, 7.5).
                self.next = Val::known(before.regs.rip);
            }
            // Software interrupts and NMIs are benign whatever their vector is.
            let first = match event.source {
                Source::Software | Source::External => Class::Benign,
                _ => class(fault.vector),
            };
            event = match (first, class(second.vector)) {
                (Class::Double, Class::Contributory | Class::Page) => {
                    *self.cpu = before;
                    return End::Shutdown;
                }
                (Class::Contributory, Class::Contributory) | (Class::Page, Class::Contributory | Class::Page) => {
                    if let Some(cr2) = second.cr2 {
                        self.cpu.sregs.cr2 = cr2;
                        self.p.set_register(Register::Cr2, P::KNOWN);
                    }
                    let fault = Fault { vector: vector::DF, code: Some(0), cr2: None };
                    Event { fault, source: Source::Trap }
                }
                _ => Event::of(second),
            };
        }
    }

    /// One delivery, and whether it has cleared AC. Nothing but memory is changed where it fails.
    fn enter(&mut self, event: Event) -> Run<bool> {
        let vector = event.fault.vector;
        let about_gate = (u32::from(vector) << 3) | 2 | self.ext;
        let idt = self.cpu.sregs.idt;
        if u64::from(vector) * 16 + 15 > u64::from(idt.limit) {
            return Err(coded(vector::GP, about_gate));
        }
        let gate = idt.base.wrapping_add(u64::from(vector) * 16);
        let low = self.system_word(gate, 8, Kind::Idt)?;
        let high = self.system_word(gate.wrapping_add(8), 8, Kind::Idt)?;
        let type_ = low >> 40 & 0x1f;
        if type_ != 0xe && type_ != 0xf {
            return Err(coded(vector::GP, about_gate));
        }
        let cpl = self.cpu.cpl();
        if event.source == Source::Software && ((low >> 45 & 3) as u8) < cpl {
            return Err(coded(vector::GP, about_gate));
        }
        if low >> 47 & 1 == 0 {
            return Err(coded(vector::NP, about_gate));
        }
        let selector = (low >> 16) as u16;
        if selector & 0xfffc == 0 {
            return Err(coded(vector::GP, self.ext));
        }
        let code = self.descriptor(selector, vector::GP)?;
        if !code.is_code() || code.dpl() > cpl || !code.is_long() || code.is_big() {
            return Err(self.about(vector::GP, selector));
        }
        if !code.is_present() {
            return Err(self.about(vector::NP, selector));
        }
        let new_cpl = if code.is_conforming() { cpl } else { code.dpl() };
        let ist = (low >> 32 & 7) as u8;
        let rsp = self.gpr(SP);
        let (top, stays) = if ist != 0 {
            (self.stack_from_tss(0x24 + 8 * (u64::from(ist) - 1))?, false)
        } else if new_cpl < cpl {
            (self.stack_from_tss(4 + 8 * u64::from(new_cpl))?, false)
        } else {
            (self.look(rsp), true)
        };
        let target = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
        if !is_canonical(target) {
            return Err(coded(vector::GP, self.ext));
        }
        let mut at = top & !0xf;
        let want = Want { user: new_cpl == 3, ..Want::write(new_cpl) };
        let flags = if event.source == Source::Fault {
            let others = self.flags(rflags::RF);
            Val { v: others.v | rflags::RF, ..others }
        } else {
            self.flags(0)
        };
        let words = [
            Val::known(self.cpu.sregs.ss.selector.into()),
            rsp,
            flags,
            Val::known(self.cpu.sregs.cs.selector.into()),
            self.next,
        ];
        let error = event.fault.code.map(|c| Val::known(c.into()));
        for word in words.into_iter().chain(error) {
            at = at.wrapping_sub(8);
            let ext = self.ext;
            let on_stack = |stop| if stop == coded(vector::SS, 0) { coded(vector::SS, ext) } else { stop };
            self.write(at, 8, word, true, want, Kind::Data).map_err(on_stack)?;
        }
        let code = self.accessed(code)?;
        self.cpu.sregs.cs = code.segment(selector & !3 | u16::from(new_cpl));
        if new_cpl != cpl {
            self.cpu.sregs.ss = null(new_cpl.into(), new_cpl);
        }
        let w = if stays { self.p.derive(&[(rsp.w, u64::MAX)]) } else { P::KNOWN };
        self.set_gpr(SP, Val { v: at, w });
        use rflags::{AC, IF, NT, RF, TF, VM};
        let clears_ac = self.knobs.delivery_clears_ac;
        let cleared_ac = clears_ac && self.cpu.regs.rflags & AC != 0;
        self.set_flags(TF | NT | RF | VM | when(type_ == 0xe, IF) | when(clears_ac, AC), 0);
        self.cpu.regs.rip = target;
        self.p.set_register(Register::Rip, P::KNOWN);
        self.cpu.events.interrupt.shadow = 0;
        Ok(cleared_ac)
    }

    /// A stack pointer from the TSS, canonical.
    fn stack_from_tss(&mut self, offset: u64) -> Run<u64> {
        let tr = self.cpu.sregs.tr;
        if offset + 7 > u64::from(tr.limit) {
            return Err(self.about(vector::TS, tr.selector));
        }
        let top = self.system_word(tr.base.wrapping_add(offset), 8, Kind::Tss)?;
        if is_canonical(top) { Ok(top) } else { Err(coded(vector::SS, self.ext)) }
    }

    /// #DB after an instruction that was executed with TF set.
    pub fn single_step(&mut self) -> End {
        const BS: u64 = 1 << 14;
        let dr6 = self.carried(Register::Dr6, self.cpu.debug.dr6);
        let other = self.p.derive(&[(dr6.w, !BS)]);
        self.cpu.debug.dr6 |= BS;
        self.p.set_register(Register::Dr6, P::keep(&dr6.w, !BS, &other));
        self.deliver(Event { fault: fault(plain(vector::DB)), source: Source::Trap })
    }
}

/// The exception in a stop that is one.
pub(super) fn fault(stop: Stop) -> Fault {
    match stop {
        Stop::Fault(fault) => fault,
        Stop::Unknown(_) => Fault { vector: vector::DF, code: Some(0), cr2: None },
    }
}
