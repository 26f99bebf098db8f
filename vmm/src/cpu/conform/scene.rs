//! A machine about to execute one instruction of a form.

use super::super::control::CR4_FSGSBASE;
use super::super::segment::flat;
use super::super::{Cpu, Msrs, Regs, Segment, Sregs, Table, rflags};
use super::encode::encode;
use super::forms::{Form, Setup};
use super::layout::*;
use super::random::Random;

/// RAM and CPU, and what lies at RIP.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Guest RAM, [`RAM`] bytes.
    pub ram: Vec<u8>,
    /// The CPU's state.
    pub cpu: Cpu,
    /// The instruction's bytes.
    pub code: Vec<u8>,
}

fn put(ram: &mut [u8], at: u64, bytes: &[u8]) {
    if let Some(place) = ram.get_mut(at as usize..at as usize + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn poke(ram: &mut [u8], at: u64, word: u64) {
    put(ram, at, &word.to_le_bytes());
}

/// What is the same in each machine; code is HLTs, and data zero.
fn base() -> Vec<u8> {
    let mut ram = vec![0; RAM as usize];
    let ram = ram.as_mut_slice();
    for (i, d) in (0..).zip(DESCRIPTORS) {
        poke(ram, GDT + 8 * i, d);
    }
    for (i, d) in (0..).zip(LOCAL_DESCRIPTORS) {
        poke(ram, LDT + 8 * i, d);
    }
    poke(ram, TSS + 4, RSP0);
    for (ist, top) in [(1, NMI_STACK), (2, FAULT_STACK), (3, DF_STACK)] {
        poke(ram, TSS + 0x24 + 8 * (ist - 1), top);
    }
    poke(ram, TSS + 96, 0x68 << 48);
    for level in 0..3 {
        poke(ram, TABLES + 0x1000 * level, (TABLES + 0x1000 * (level + 1)) | 0x67);
    }
    for page in (0x1000..RAM).step_by(0x1000) {
        let flags = match page {
            UNMAPPED | STACK_END => continue,
            READ_ONLY => 0x61,
            _ if page >= USER_CODE => 0x67,
            _ => 0x63,
        };
        poke(ram, TABLES + 0x3000 + (page >> 12) * 8, page | flags);
    }
    for area in [HANDLERS..HANDLERS + 0x1000, CODE..CODE + 0x2000, USER_CODE..USER_CODE + 0x2000] {
        if let Some(area) = ram.get_mut(area.start as usize..area.end as usize) {
            area.fill(0xf4);
        }
    }
    put(ram, SYSCALL_ENTRY, &[0xf4]);
    ram.to_vec()
}

impl Scene {
    /// A machine for `form` at this CPL, 0 or 3.
    pub fn new(form: &Form, cpl: u8, random: &mut Random) -> Self {
        static BASE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut ram = BASE.get_or_init(base).clone();
        let mut cpu = system(cpl);
        let fault_ist = if random.once_in(4) { 0 } else { 2 };
        for v in 0..256u64 {
            let ist = match v {
                2 => 1,
                8 => 3,
                _ => fault_ist,
            };
            let to = HANDLERS + 16 * v;
            let dpl = u64::from(v == 3) * 3;
            poke(&mut ram, IDT + 16 * v, to & 0xffff | KERNEL_CS << 16 | ist << 32 | (0x8e | dpl << 5) << 40);
        }
        let (data, stack, code) = if cpl == 3 { (USER_DATA, USER_STACK, USER_CODE) } else { (DATA, STACK, CODE) };
        for area in [data, stack] {
            for at in (area..area + 0x2000).step_by(8) {
                poke(&mut ram, at, random.word());
            }
        }
        for n in 0..16 {
            *cpu.gpr_mut(n) = random.value();
        }
        let pointer = address(random, data);
        (cpu.regs.rbx, cpu.regs.r11) = (pointer, pointer);
        cpu.regs.rbp = stack + 0x800 + 8 * random.below(64);
        cpu.regs.rsp = match random.below(16) {
            0 => random.value(),
            1 => stack + 0x2000 + 8 * random.below(2),
            2 => stack + 0x1000 - 4,
            3 => stack + 0xff8,
            _ => stack + 0x400 + 8 * random.below(128),
        };
        if random.once_in(2) {
            cpu.regs.rcx = random.below(20);
        }
        let arithmetic = rflags::CF | rflags::PF | rflags::AF | rflags::ZF | rflags::SF | rflags::OF;
        cpu.regs.rflags = rflags::FIXED | random.word() & (arithmetic | rflags::DF | rflags::ID);
        if cpl == 3 || random.once_in(3) {
            cpu.regs.rflags |= rflags::IF;
        }
        // Not at CPL 3, where it means something: a host may run that with its own CR0.AM.
        if cpl == 0 && random.once_in(4) {
            cpu.regs.rflags |= rflags::AC;
        }
        let at = code + if random.once_in(8) { 0x1000 - 1 - random.below(6) } else { 0x100 + random.below(0x400) };
        cpu.regs.rip = at;
        if form.name.ends_with("sbase") && random.once_in(2) {
            cpu.sregs.cr4 |= CR4_FSGSBASE;
        }
        let bytes = encode(form, random, at);
        let all = [&bytes[..], form.after].concat();
        put(&mut ram, at, &all);
        let mut scene = Self { ram, cpu, code: bytes };
        scene.set_up(form.setup, cpl, random, (data, stack, code));
        scene
    }

    /// A machine for `form`, and after it these others.
    pub fn path(form: &Form, others: &[Form], cpl: u8, random: &mut Random) -> Self {
        let mut scene = Self::new(form, cpl, random);
        let mut at = scene.cpu.regs.rip + scene.code.len() as u64;
        for other in others {
            let bytes = encode(other, random, at);
            put(&mut scene.ram, at, &bytes);
            at += bytes.len() as u64;
        }
        scene
    }

    fn word_at(&mut self, at: u64, word: u64) {
        // What lies outside of RAM is not needed.
        if at < RAM - 8 {
            poke(&mut self.ram, at, word);
        }
    }

    fn set_up(&mut self, setup: Setup, cpl: u8, random: &mut Random, (data, stack, code): (u64, u64, u64)) {
        let near = |r: &mut Random| if r.once_in(8) { r.value() } else { code + 0x800 + r.below(0x400) };
        let rsp = stack + 0x400 + 8 * random.below(128);
        match setup {
            Setup::Any => {}
            Setup::String => {
                for n in [6, 7] {
                    *self.cpu.gpr_mut(n) = address(random, data);
                }
                if random.once_in(2) {
                    self.cpu.regs.rdi = self.cpu.regs.rsi.wrapping_add(random.below(16));
                }
                self.cpu.regs.rcx = random.below(20);
            }
            Setup::Divide => {
                if random.once_in(2) {
                    self.cpu.regs.rdx = random.pick(&[0, 1, u64::MAX, 0xffff_ffff]);
                }
            }
            Setup::BitOffset => {
                for n in [0, 2, 6, 7, 8, 9, 10] {
                    let small = (random.below(0x2000) as i64 - 0x1000) as u64;
                    let kept = if random.once_in(2) { random.word() << 16 } else { 0 };
                    *self.cpu.gpr_mut(n) = if random.once_in(3) { small } else { kept | small & 0xffff };
                }
            }
            Setup::Near => {
                self.cpu.regs.rsp = rsp;
                let target = near(random);
                self.word_at(rsp, target);
                for n in [0, 1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15] {
                    *self.cpu.gpr_mut(n) = near(random);
                }
                for i in 0..80 {
                    let target = near(random);
                    self.word_at(self.cpu.regs.rbx.wrapping_add(i), target);
                }
                if self.code.len() > 1 && self.code.last().is_some_and(|modrm| modrm & 0xc7 == 0xc3) {
                    (self.cpu.regs.rbx, self.cpu.regs.r11) = (near(random), near(random));
                }
            }
            Setup::Far => {
                self.cpu.regs.rsp = rsp;
                let cs = if cpl == 3 { USER_CS } else { KERNEL_CS };
                let mut words = [near(random), cs, stack + 0x800, 0x23, 0x23, 0x23];
                if random.once_in(2) {
                    words[1] = random.pick(&SELECTORS);
                }
                for (i, word) in (0..).zip(words) {
                    self.word_at(rsp + 8 * i, word);
                }
                self.far_pointers(random, data, code);
            }
            Setup::Frame => {
                let target = near(random);
                self.frame(random, cpl, rsp, target);
            }
            Setup::Selector => {
                self.cpu.regs.rax = random.word() << 16 | random.pick(&SELECTORS);
                self.cpu.regs.rsp = rsp;
                let selector = random.pick(&SELECTORS);
                self.word_at(rsp, selector);
                let selector = random.pick(&[0, 0x58, 0x68, 0x30]);
                for at in 0..80 {
                    self.word_at(self.cpu.regs.rbx.wrapping_add(at), selector);
                }
                for n in [2, 6, 8, 9] {
                    *self.cpu.gpr_mut(n) = random.pick(&[0, 0x58, 0x68, 0x30, 0x10, 0x1f8]);
                }
            }
            Setup::Msr => {
                let carried = random.pick(&Msrs::NUMBERS.map(u64::from));
                self.cpu.regs.rcx =
                    random.pick(&[0xc000_0100, 0xc000_0101, 0xc000_0102, 0xc000_0080, carried, carried]);
                let value = match self.cpu.regs.rcx {
                    0xc000_0080 => 0xd01,
                    0x277 => 0x0007_0406_0007_0406 ^ random.pick(&[0, 2, 4, 0x0700]),
                    _ if random.once_in(4) => random.value(),
                    _ => random.below(1 << 31),
                };
                (self.cpu.regs.rax, self.cpu.regs.rdx) = (value & 0xffff_ffff, value >> 32);
            }
            Setup::Sysret => {
                (self.cpu.regs.rcx, self.cpu.regs.r11) = (USER_CODE + random.below(0x100), random.word() & !rflags::TF)
            }
            Setup::Control => {
                let s = &self.cpu.sregs;
                let like = random.pick(&[s.cr0, s.cr0 | 8, s.cr0 ^ 1 << 16, s.cr0 ^ 1 << 31, s.cr3, s.cr4, s.cr4 ^ 4]);
                self.cpu.regs.rax = match random.below(4) {
                    0 => random.value(),
                    1 => random.below(18),
                    _ => like,
                };
            }
            Setup::Table => {
                let value = if random.once_in(4) { random.value() } else { GDT };
                for at in 0..80 {
                    self.word_at(self.cpu.regs.rbx.wrapping_add(at), value << 16 | 0x7f);
                }
            }
        }
    }

    /// Far pointers wherever a memory operand may be.
    fn far_pointers(&mut self, random: &mut Random, data: u64, code: u64) {
        let long = self.code.iter().take(2).any(|b| b & 0xf8 == 0x48);
        let selector = if random.once_in(3) { random.pick(&SELECTORS) } else { self.cpu.sregs.cs.selector.into() };
        self.cpu.regs.rbx = data + 16 * random.below(0x80);
        self.cpu.regs.rcx = 0;
        let step = 16;
        for at in (self.cpu.regs.rbx..self.cpu.regs.rbx + 0x60).step_by(step) {
            self.word_at(at, code + 0x800);
            self.word_at(at + if long { 8 } else { 4 }, selector);
        }
    }

    fn frame(&mut self, random: &mut Random, cpl: u8, rsp: u64, near: u64) {
        let to_user = cpl == 3 || random.once_in(3);
        let (cs, ss, sp) = if to_user {
            (USER_CS, USER_SS, USER_STACK + 0x800)
        } else {
            (KERNEL_CS, random.pick(&[KERNEL_SS, KERNEL_SS, 0]), STACK + 0x800 + random.below(64))
        };
        let near = if to_user && cpl == 0 { USER_CODE + 0x800 } else { near };
        let any = rflags::IF | rflags::DF | rflags::ID | rflags::RF | rflags::CF | rflags::ZF | rflags::OF;
        let flags = rflags::FIXED | random.word() & any;
        let mut words = [near, cs, flags, sp, ss];
        match random.below(8) {
            0 => words[1] = random.pick(&SELECTORS),
            1 => words[4] = random.pick(&SELECTORS),
            2 => words[2] |= rflags::NT | rflags::IOPL,
            3 => self.cpu.regs.rflags |= rflags::NT,
            _ => {}
        }
        self.cpu.regs.rsp = rsp;
        self.cpu.events.nmi.masked = u8::from(cpl == 0 && random.once_in(2));
        for (i, word) in (0..).zip(words) {
            self.word_at(rsp + 8 * i, word);
        }
    }
}

/// An address of an operand: in the data, at the end of a page, or where a fault is.
fn address(random: &mut Random, data: u64) -> u64 {
    match random.below(16) {
        0 => UNMAPPED - random.below(64),
        1 => READ_ONLY + random.below(0x800),
        2 => random.value(),
        3 => data + 0x1000 - random.below(80),
        4 => UNMAPPED + random.below(64),
        _ => data + 0x200 + random.below(0xc00),
    }
}

fn system(cpl: u8) -> Cpu {
    let mut cpu = Cpu::default();
    let (cs, ss) = if cpl == 3 { (USER_CS, USER_SS) } else { (KERNEL_CS, KERNEL_SS) };
    let data = flat(KERNEL_SS as u16, false, 0, false);
    let user = flat(USER_SS as u16, false, 3, false);
    let others = if cpl == 3 { user } else { data };
    cpu.sregs = Sregs {
        cs: flat(cs as u16, true, cpl, true),
        ss: flat(ss as u16, false, cpl, false),
        ds: others,
        es: others,
        fs: others,
        gs: others,
        tr: Segment { base: TSS, limit: 0x67, selector: TR as u16, type_: 0xb, present: 1, ..Segment::default() },
        ldt: Segment { unusable: 1, ..Segment::default() },
        gdt: Table { base: GDT, limit: DESCRIPTORS.len() as u16 * 8 - 1 },
        idt: Table { base: IDT, limit: 0xfff },
        cr0: 0x8001_0033,
        cr3: TABLES,
        cr4: 0x620,
        efer: 0xd01,
        ..Sregs::default()
    };
    cpu.regs = Regs { rflags: rflags::FIXED, ..Regs::default() };
    for (index, value) in [
        (Msrs::STAR, 0x1b << 48 | KERNEL_CS << 32),
        (Msrs::LSTAR, SYSCALL_ENTRY),
        (Msrs::FMASK, 0x4_7700),
        (3, 0x0007_0406_0007_0406),
    ] {
        cpu.msrs.values[index] = value;
    }
    cpu
}
