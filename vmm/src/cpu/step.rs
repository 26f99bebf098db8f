//! One step of the CPU: an instruction, or an event.

use super::decode::{Cache, Decoded, Op};
use super::deliver::{Event, Source};
use super::end::{End, Fault, NotUnderstood, Run, Stop, plain, vector};
use super::exec::Exec;
use super::memory::Memory;
use super::rflags::{CF, DF, RF, TF};
use super::trace::{Provenance, Register};
use super::value::Val;
use super::{Cpu, Knobs, SHADOW_MOV_SS};

/// The model of a CPU: what it remembers of code that it decoded, and its knobs. It has no
/// state that a result depends on.
#[derive(Clone, Debug, Default)]
pub struct Model {
    cache: Cache,
    knobs: Knobs,
}

/// What an instruction came to, before RIP moves.
enum Done {
    Next,
    /// A string instruction, to be continued.
    Again,
    Stop(End),
    Event(Event),
}

impl Model {
    /// A model with these knobs.
    pub fn new(knobs: Knobs) -> Self {
        Self { cache: Cache::default(), knobs }
    }

    /// Executes one instruction, or one iteration of a repeated string instruction, and
    /// delivers the exception that it raises. No event is looked for: what is pending stays
    /// so (see [`Model::deliver_nmi`]).
    #[inline]
    pub fn step<M: Memory, P: Provenance>(&mut self, cpu: &mut Cpu, mem: &mut M, p: &mut P) -> End {
        let rip = cpu.regs.rip;
        let at_rip = p.register(Register::Rip);
        p.look(&at_rip, u64::MAX);
        p.set_register(Register::Rip, P::KNOWN);
        p.look_flags(TF);
        let stepped = cpu.regs.rflags & TF != 0;
        let shadow = std::mem::take(&mut cpu.events.interrupt.shadow);
        let mut exec = Exec { cpu, mem, p, knobs: &self.knobs, next: Val::known(rip), ext: 0 };
        let mut is_iret = false;
        let mut loads_flags = false;
        let done = match exec.fetch(&mut self.cache) {
            Ok(d) => {
                is_iret = d.op == Op::Iret;
                loads_flags = matches!(d.op, Op::Syscall | Op::Sysret);
                exec.next = Val::known(rip.wrapping_add(d.len.into()));
                exec.execute(d, shadow)
            }
            Err(stop) => Err(stop),
        };
        let end = match done {
            Ok(Done::Next) => End::Next,
            Ok(Done::Again) => {
                exec.next = Val::known(rip);
                exec.set_flags(RF, RF);
                return exec.complete(stepped);
            }
            Ok(Done::Stop(_)) if stepped => End::NotUnderstood(NotUnderstood::Mode("a single step over a stop")),
            Ok(Done::Stop(end)) => end,
            Ok(Done::Event(event)) => exec.deliver(event),
            Err(Stop::Fault(fault)) => {
                exec.next = Val::known(rip);
                if is_iret && exec.knobs.faulting_iret_unblocks {
                    exec.cpu.events.nmi.masked = 0;
                }
                exec.deliver(Event::of(fault))
            }
            Err(Stop::Unknown(why)) => End::NotUnderstood(why),
        };
        match end {
            End::NotUnderstood(_) | End::Shutdown => {
                exec.cpu.events.interrupt.shadow = shadow;
                end
            }
            End::Delivered(_) => end,
            End::Next => {
                if !is_iret {
                    exec.set_flags(RF, 0);
                }
                // SYSCALL and SYSRET trap by the TF that they load.
                let stepped = if loads_flags { exec.cpu.regs.rflags & TF != 0 } else { stepped };
                let hidden = exec.cpu.events.interrupt.shadow == SHADOW_MOV_SS;
                exec.complete(stepped && !hidden)
            }
            End::Out { .. } | End::In { .. } | End::Halt => {
                exec.set_flags(RF, 0);
                exec.complete(false);
                end
            }
        }
    }

    /// Delivers an NMI at the boundary where the CPU stands, and blocks further ones. Whether
    /// it may be delivered (mask, shadow) is the caller's to know.
    pub fn deliver_nmi<M: Memory, P: Provenance>(&mut self, cpu: &mut Cpu, mem: &mut M, p: &mut P) -> End {
        let masked = std::mem::replace(&mut cpu.events.nmi.masked, 1);
        let end = self.event(cpu, mem, p, vector::NMI, None, Source::External);
        if let End::NotUnderstood(_) | End::Shutdown = end {
            cpu.events.nmi.masked = masked;
        }
        end
    }

    /// Delivers an external interrupt at the boundary where the CPU stands.
    pub fn deliver_interrupt<M: Memory, P: Provenance>(
        &mut self,
        cpu: &mut Cpu,
        mem: &mut M,
        p: &mut P,
        vector: u8,
    ) -> End {
        self.event(cpu, mem, p, vector, None, Source::External)
    }

    /// Delivers an exception at the boundary where the CPU stands, as one that the instruction
    /// there raises.
    pub fn deliver_exception<M: Memory, P: Provenance>(
        &mut self,
        cpu: &mut Cpu,
        mem: &mut M,
        p: &mut P,
        vector: u8,
        code: Option<u32>,
    ) -> End {
        self.event(cpu, mem, p, vector, code, Source::Fault)
    }

    fn event<M: Memory, P: Provenance>(
        &mut self,
        cpu: &mut Cpu,
        mem: &mut M,
        p: &mut P,
        vector: u8,
        code: Option<u32>,
        source: Source,
    ) -> End {
        let next = Val { v: cpu.regs.rip, w: p.register(Register::Rip) };
        let mut exec = Exec { cpu, mem, p, knobs: &self.knobs, next, ext: 0 };
        if let Err(stop) = exec.check_mode() {
            return End::NotUnderstood(why(stop));
        }
        exec.deliver(Event { fault: Fault { vector, code, cr2: None }, source })
    }
}

fn why(stop: Stop) -> NotUnderstood {
    match stop {
        Stop::Unknown(why) => why,
        Stop::Fault(_) => NotUnderstood::Mode("this state"),
    }
}

/// Completes an IN with the value read.
pub fn complete_in<P: Provenance>(cpu: &mut Cpu, p: &mut P, size: u8, value: u32) {
    let value = u64::from(value);
    let rax = cpu.regs.rax;
    let (kept, word) = match size {
        1 | 2 => (!super::value::ones(size.into()), p.register(Register::Gpr(0))),
        _ => (0, P::KNOWN),
    };
    cpu.regs.rax = rax & kept | value & super::value::ones(size.into());
    p.set_register(Register::Gpr(0), P::put(&word, 0, size.into(), &P::KNOWN));
}

impl<'a, M: Memory, P: Provenance> Exec<'a, M, P> {
    /// Moves RIP, and delivers the single-step trap.
    #[inline]
    fn complete(&mut self, stepped: bool) -> End {
        self.cpu.regs.rip = self.next.v;
        self.p.set_register(Register::Rip, self.next.w);
        if stepped { self.single_step() } else { End::Next }
    }

    /// Executes an instruction. `shadow` is what held events back before it.
    fn execute(&mut self, d: &Decoded, shadow: u8) -> Run<Done> {
        let size = usize::from(d.size);
        match d.op {
            Op::Mov | Op::Movzx => self.mov(d)?,
            Op::Movsx => self.mov_signed(d)?,
            Op::Lea => self.lea(d)?,
            Op::Xchg => self.exchange(d)?,
            Op::Cmov(c) => self.move_on(c, d)?,
            Op::Setcc(c) => self.set_on(c, d)?,
            Op::Bswap => self.swap_bytes(d)?,
            Op::Xlat => self.translate(d)?,
            Op::Push => self.push_operand(d)?,
            Op::Pop => self.pop_operand(d)?,
            Op::Pushf => self.push_flags(size)?,
            Op::Popf => self.pop_flags(size)?,
            Op::Leave => self.leave(8)?,
            Op::Alu(op) => self.alu(op, d)?,
            Op::Inc => self.increment(false, d)?,
            Op::Dec => self.increment(true, d)?,
            Op::Neg => self.negate(d)?,
            Op::Not => self.invert(d)?,
            Op::Multiply { signed } => self.multiply(signed, d)?,
            Op::Imul => self.multiply_into(d)?,
            Op::Divide { signed } => self.divide(signed, d)?,
            Op::Shift(op) => self.shift(op, d)?,
            Op::DoubleShift { left } => self.double_shift(left, d)?,
            Op::Bit(op) => self.bit(op, d)?,
            Op::Scan { reverse } => self.scan(reverse, d)?,
            Op::Jcc(c) => {
                if self.holds(c)? {
                    self.jump(d)?;
                }
            }
            Op::Jmp => self.jump(d)?,
            Op::Call => self.call(d)?,
            Op::Ret => self.ret(d)?,
            Op::Loop(want) => self.count_down(want, d)?,
            Op::Jrcxz => self.jump_on_zero(d)?,
            Op::JmpFar | Op::CallFar => {
                let at = self.linear(&d.mem);
                self.far(at, size - 2, d.mem.stack, d.op == Op::CallFar)?;
            }
            Op::RetFar => {
                let extra = if let super::decode::Operand::Imm(n) = d.a { n & 0xffff } else { 0 };
                self.far_return(size, extra)?;
            }
            Op::Iret if size == 8 => self.iret()?,
            Op::Syscall => self.syscall()?,
            Op::Sysret => self.sysret(size == 8)?,
            Op::Str(op) => {
                if self.string(op, d)? {
                    return Ok(Done::Again);
                }
            }
            Op::Cmpxchg => self.compare_exchange(d)?,
            Op::Cmpxchg8b => self.compare_exchange_8(d)?,
            Op::Xadd => self.exchange_add(d)?,
            Op::Lahf => self.flags_to_ah(),
            Op::Sahf => self.ah_to_flags(),
            Op::Widen => self.widen(size),
            Op::SignToD => self.sign_to_d(size),
            Op::Clc => self.set_flags(CF, 0),
            Op::Stc => self.set_flags(CF, CF),
            Op::Cmc => {
                let flags = self.look_flags(CF)?;
                self.set_flags(CF, flags ^ CF);
            }
            Op::Cld => self.set_flags(DF, 0),
            Op::Std => self.set_flags(DF, DF),
            Op::Nop => {}
            _ => return self.execute_system(d, shadow),
        }
        Ok(Done::Next)
    }

    fn execute_system(&mut self, d: &Decoded, shadow: u8) -> Run<Done> {
        match d.op {
            Op::Cli => self.disable()?,
            Op::Sti => self.enable(shadow)?,
            Op::MovFromSreg => self.mov_from_sreg(d)?,
            Op::MovToSreg => self.mov_to_sreg(d, shadow)?,
            Op::MovFromCr => self.mov_from_cr(d)?,
            Op::MovToCr => self.mov_to_cr(d)?,
            Op::MovFromDr => self.mov_from_dr(d)?,
            Op::MovToDr => self.mov_to_dr(d)?,
            Op::Rdmsr => self.read_msr()?,
            Op::Wrmsr => self.write_msr()?,
            Op::Swapgs => self.swap_gs()?,
            Op::ReadBase(base) => self.read_base(base, d)?,
            Op::WriteBase(base) => self.write_base(base, d)?,
            Op::Table(op) => self.table(op, d)?,
            Op::Lldt => self.load_system(d, false)?,
            Op::Ltr => self.load_system(d, true)?,
            Op::Sldt => self.store_system(d, self.cpu.sregs.ldt.selector.into())?,
            Op::Str16 => self.store_system(d, self.cpu.sregs.tr.selector.into())?,
            Op::Smsw => self.store_system(d, self.cpu.sregs.cr0)?,
            Op::Invlpg | Op::Wbinvd => self.check_cpl0()?,
            Op::Clts => self.clear_ts()?,
            Op::Hlt => {
                self.check_cpl0()?;
                return Ok(Done::Stop(End::Halt));
            }
            Op::In => return Ok(Done::Stop(self.port(d, d.b, false)?)),
            Op::Out => return Ok(Done::Stop(self.port(d, d.a, true)?)),
            Op::Int => {
                let vector = if let super::decode::Operand::Imm(n) = d.a { n as u8 } else { 0 };
                return Ok(software(vector, Source::Software));
            }
            Op::Int3 => return Ok(software(vector::BP, Source::Software)),
            Op::Int1 => return Ok(software(vector::DB, Source::Trap)),
            Op::Ud => return Err(plain(vector::UD)),
            Op::Outside => return Err(NotUnderstood::Outside(d.mnemonic).into()),
            _ => return Err(NotUnderstood::Instruction(d.mnemonic).into()),
        }
        Ok(Done::Next)
    }
}

fn software(vector: u8, source: Source) -> Done {
    Done::Event(Event { fault: Fault { vector, code: None, cr2: None }, source })
}
