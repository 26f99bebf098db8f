//! A small machine for the unit tests: RAM one to one, handlers and stacks.

use super::*;

pub const CODE: u64 = 0x8000;
pub const STACK: u64 = 0x1_0000;
pub const NMI_STACK: u64 = 0x1_1000;
pub const HANDLER: u64 = 0x7000;
pub const RAM: usize = 0x2_0000;

/// RAM with tables, and a CPU at CPL 0 that stands at [`CODE`].
pub fn machine(code: &[u8]) -> (Vec<u8>, Cpu) {
    let mut ram = vec![0u8; RAM];
    let mut put = |at: u64, bytes: &[u8]| ram[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    for (at, word) in [(0x1000, 0x2027u64), (0x2000, 0x3027), (0x3000, 0x4027)] {
        put(at, &word.to_le_bytes());
    }
    for page in 0..RAM as u64 / 4096 {
        put(0x4000 + 8 * page, &(page << 12 | 0x63).to_le_bytes());
    }
    for (i, d) in [0u64, descriptor::FLAT_CODE, descriptor::FLAT_DATA].iter().enumerate() {
        put(0x500 + 8 * i as u64, &d.to_le_bytes());
    }
    for v in 0..32u64 {
        let ist = if v == 2 { 1 } else { 0 };
        let at = HANDLER + 16 * v;
        put(0x5000 + 16 * v, &((at & 0xffff) | 0x08 << 16 | ist << 32 | 0x8e << 40).to_le_bytes());
        put(at, &[0x48, 0xcf]);
    }
    put(0x600 + 0x24, &NMI_STACK.to_le_bytes());
    put(CODE, code);
    let regs = Regs { rip: CODE, rsp: STACK - 0x100, rflags: rflags::FIXED, ..Regs::default() };
    let mut cpu = Cpu { regs, ..Cpu::default() };
    let flat = |selector, code: bool| segment::flat(selector, code, 0, code);
    let data = flat(0x10, false);
    let tr = Segment { base: 0x600, limit: 0x67, selector: 0x18, type_: 0xb, present: 1, ..Segment::default() };
    cpu.sregs = Sregs { cs: flat(8, true), ds: data, es: data, fs: data, gs: data, ss: data, tr, ..Sregs::default() };
    cpu.sregs.gdt = Table { base: 0x500, limit: 0x17 };
    cpu.sregs.idt = Table { base: 0x5000, limit: 0x1ff };
    (cpu.sregs.cr0, cpu.sregs.cr3, cpu.sregs.cr4, cpu.sregs.efer) = (0x8001_0033, 0x1000, 0x20, 0xd01);
    (ram, cpu)
}

/// Steps `n` times.
pub fn steps(ram: &mut [u8], cpu: &mut Cpu, n: usize) -> Vec<End> {
    let mut log = Vec::new();
    let mut mem = Ram::new(ram, &mut log);
    let mut model = Model::default();
    (0..n).map(|_| model.step(cpu, &mut mem, &mut Untraced)).collect()
}
