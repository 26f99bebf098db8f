//! Code and stack selectors of a frame, looked up in the guest's GDT and LDT.

use super::outcome::Refusal;
use crate::cpu::Segment;
use crate::cpu::descriptor::{
    BIG, CODE_OR_DATA, CONFORMING, EXECUTABLE, FLAT_CODE, FLAT_DATA, LONG, PRESENT, WRITABLE,
};
use crate::kvm::VcpuState;
use crate::machine::memory::GuestMemory;

/// A code and a stack segment that may be loaded together.
#[derive(Clone, Copy)]
pub struct Segments {
    cs: Segment,
    ss: Segment,
}

impl Segments {
    /// Looks both up; the words' low 16 bits count. An error says what an IRET to them
    /// would raise (SDM vol. 2, IRET).
    pub fn load(state: &VcpuState, mem: &GuestMemory, cs: u64, ss: u64) -> Result<Self, Refusal> {
        let (cs, ss) = (cs as u16, ss as u16);
        let of_cs = |why| Refusal { error: cs & !3, ..Refusal::protection(why) };
        let of_ss = |why| Refusal { error: ss & !3, ..Refusal::protection(why) };
        let ring = cs & 3;
        if cs & !3 == 0 {
            return Err(Refusal::protection("CS is null"));
        }
        if matches!(ring, 1 | 2) {
            return Err(of_cs("CS is of ring 1 or 2"));
        }
        let code = descriptor(state, mem, cs).ok_or(of_cs("CS is in no descriptor table"))?;
        if code & CODE_OR_DATA == 0 || code & EXECUTABLE == 0 {
            return Err(of_cs("CS is not a code segment"));
        }
        let no_code = of_cs("CS is not a present 64-bit code segment");
        // A kernel's code is 64-bit code; a user's may be of either width.
        let wide = if code & LONG != 0 { code & BIG == 0 } else { ring == 3 };
        if !wide {
            return Err(no_code);
        }
        let dpl = dpl(code);
        let fits = if code & CONFORMING != 0 { dpl <= ring } else { dpl == ring };
        if !fits {
            return Err(of_cs("CS's privilege does not fit its descriptor"));
        }
        if code & PRESENT == 0 {
            return Err(Refusal { vector: 11, ..no_code });
        }
        if ss & !3 == 0 {
            // A null SS is good for 64-bit code but at CPL3.
            return match ring == 0 && ss == 0 {
                true => Ok(Self { cs: segment(cs, code), ss: null() }),
                false => Err(Refusal::protection("SS is null")),
            };
        }
        if ss & 3 != ring {
            return Err(of_ss("SS's RPL is not CS's"));
        }
        let data = descriptor(state, mem, ss).ok_or(of_ss("SS is in no descriptor table"))?;
        let no_data = of_ss("SS is not a present writable data segment");
        if data & CODE_OR_DATA == 0 || data & EXECUTABLE != 0 || data & WRITABLE == 0 {
            return Err(no_data);
        }
        if self::dpl(data) != ring {
            return Err(of_ss("SS's privilege does not fit its descriptor"));
        }
        if data & PRESENT == 0 {
            return Err(Refusal { vector: 12, ..no_data });
        }
        Ok(Self { cs: segment(cs, code), ss: segment(ss, data) })
    }

    /// Flat 64-bit code and data of ring 0 or 3, which SYSCALL, SYSRET and FRED load without
    /// a look at the descriptors (SDM vol. 2, SYSCALL).
    pub fn standard(cs: u16, ss: u16) -> Self {
        let dpl = u64::from(cs & 3) << 45;
        Self { cs: segment(cs, FLAT_CODE | dpl), ss: segment(ss, FLAT_DATA | dpl) }
    }

    /// Loads them. A segment whose selector is the current one stays as it is.
    pub fn commit(self, state: &mut VcpuState) {
        for (now, new) in [(&mut state.sregs.cs, self.cs), (&mut state.sregs.ss, self.ss)] {
            if now.selector != new.selector {
                *now = new;
            }
        }
    }
}

/// The descriptor in the GDT or, where the selector says so, in the LDT.
fn descriptor(state: &VcpuState, mem: &GuestMemory, selector: u16) -> Option<u64> {
    let (gdt, ldt, offset) = (&state.sregs.gdt, &state.sregs.ldt, u32::from(selector & !7));
    let (base, limit) = match selector & 4 {
        0 => (gdt.base, gdt.limit.into()),
        _ if ldt.unusable != 0 || ldt.present == 0 => return None,
        _ => (ldt.base, ldt.limit),
    };
    if offset + 7 > limit {
        return None;
    }
    mem.word(state.sregs.cr3, base.wrapping_add(offset.into()))
}

fn dpl(descriptor: u64) -> u16 {
    (descriptor >> 45 & 3) as u16
}

/// What the CPU would cache of a descriptor.
fn segment(selector: u16, d: u64) -> Segment {
    let limit = (d & 0xffff | d >> 32 & 0xf_0000) as u32;
    let pages = d >> 55 & 1 != 0;
    Segment {
        base: d >> 16 & 0xff_ffff | d >> 32 & 0xff00_0000,
        limit: if pages { limit << 12 | 0xfff } else { limit },
        selector,
        type_: (d >> 40 & 0xf) as u8 | 1, // accessed
        present: 1,
        dpl: dpl(d) as u8,
        db: (d >> 54 & 1) as u8,
        s: 1,
        l: (d >> 53 & 1) as u8,
        g: pages.into(),
        avl: (d >> 52 & 1) as u8,
        unusable: 0,
    }
}

fn null() -> Segment {
    Segment { unusable: 1, ..Segment::default() }
}
