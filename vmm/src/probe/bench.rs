//! The small guest that every probe runs: 64-bit mode, one page table, a GDT with
//! what IRET can load, and an IDT whose handlers begin with HLT. What is not used is
//! filled with HLT, so that a guest that goes astray says where it is.

use crate::cpu::descriptor::{FLAT_CODE, FLAT_DATA};
use crate::cpu::{Regs, Segment, msr, rflags};
use crate::kvm::{Error, Exit, Host, VcpuState, Vm};

const GDT: u64 = 0x1000;
/// Code and stack segments of a process's own.
const LDT: u64 = 0x1400;
const TSS: u64 = 0x1800;
const IDT: u64 = 0x2000;
const TABLES: u64 = 0x3000;
/// Handler of vector v: 16 bytes from here + 16 v.
pub const HANDLERS: u64 = 0x7000;
/// Kernel code, 8 KiB of it.
pub const CODE: u64 = 0x8000;
/// Where returns lead to, 8 KiB.
pub const TARGET: u64 = 0xa000;
/// Where SYSCALL leads to.
pub const SYSCALL_ENTRY: u64 = 0xc000;
/// A word to load and store.
pub const DATA: u64 = 0xd000;
/// A page that is not present.
pub const UNMAPPED: u64 = 0xe000;
/// Stacks, by their tops: the kernel's, the NMI's, the exceptions', #DF's, the one
/// for entries from ring 3, the user's. A page each.
pub const STACK: u64 = 0x1_0000;
pub const NMI_STACK: u64 = 0x1_1000;
pub const FAULT_STACK: u64 = 0x1_2000;
const DF_STACK: u64 = 0x1_3000;
const RSP0: u64 = 0x1_4000;
pub const USER_STACK: u64 = 0x1_5000;
/// User code, 8 KiB.
pub const USER: u64 = 0x1_5000;
const USER_END: u64 = USER + 0x2000;
/// The end of RAM.
const RAM: u64 = USER_END;
/// Bit 47 and bits 63:48 differ.
pub const NON_CANONICAL: u64 = 0x8000_0000_0000;

pub const KERNEL_CS: u64 = 0x08;
pub const KERNEL_SS: u64 = 0x10;
pub const USER_SS: u64 = 0x20 | 3;
pub const USER_CS: u64 = 0x28 | 3;
pub const CODE_NOT_PRESENT: u64 = 0x40;
pub const DATA_NOT_PRESENT: u64 = 0x48 | 3;
/// A 16-bit stack segment for ring 3.
pub const SS_16: u64 = 0x50 | 3;
/// The LDT's own descriptor, for LLDT.
pub const LDTR: u64 = 0x58;
/// 32-bit code for ring 3, from the LDT.
pub const LDT_CS_32: u64 = 4 | 3;
/// A 16-bit stack segment for ring 3, from the LDT.
pub const LDT_SS_16: u64 = 8 | 4 | 3;
const TR: u16 = 0x30;

const LOCAL_DESCRIPTORS: [u64; 2] = [
    0x00cf_fb00_0000_ffff, // user code, 32-bit
    0x0000_f300_0000_ffff, // user data, 16-bit
];

const DESCRIPTORS: [u64; 13] = [
    0,
    FLAT_CODE,
    FLAT_DATA,
    0x00cf_fb00_0000_ffff, // user code, 32-bit: the base of SYSRET's selectors
    0x00cf_f300_0000_ffff, // user data
    0x00af_fb00_0000_ffff, // user code, 64-bit
    0x0000_8b00_0000_0067 | TSS << 16,
    0,
    0x00af_1b00_0000_ffff, // kernel code, not present
    0x00cf_7300_0000_ffff, // user data, not present
    0x0000_f300_0000_ffff, // user data, 16-bit
    0x0000_8200_0000_000f | LDT << 16,
    0,
];

const NMI: u8 = 2;
const IST_NMI: u8 = 1;
const IST_FAULT: u8 = 2;
const IST_DF: u8 = 3;

/// Why a probe has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fail {
    /// KVM refused something.
    #[error(transparent)]
    Kvm(#[from] Error),
    /// The guest did what this probe cannot interpret.
    #[error("{0}")]
    Unexpected(String),
}

/// Where a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The first instruction of a vector's handler.
    Handler(u8),
    /// A HLT elsewhere; RIP is at it.
    Halt(u64),
    /// Another exit.
    Exit(Exit),
}

/// An interrupt frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// To `rip` in the kernel.
    pub fn kernel(rip: u64) -> Self {
        Self { rip, cs: KERNEL_CS, rflags: rflags::FIXED, rsp: STACK - 0x100, ss: KERNEL_SS }
    }

    /// To `rip` in ring 3.
    pub fn user(rip: u64) -> Self {
        Self { rip, cs: USER_CS, rflags: rflags::FIXED, rsp: USER_STACK, ss: USER_SS }
    }

    fn words(self) -> [u64; 5] {
        [self.rip, self.cs, self.rflags, self.rsp, self.ss]
    }
}

/// The small guest in its VM.
pub struct Bench {
    pub vm: Vm,
}

impl Bench {
    /// A fresh VM, about to execute NOPs at [`CODE`].
    pub fn new(host: &Host) -> Result<Self, Fail> {
        let mut bench = Self::untouched(host)?;
        bench.touch_all()?;
        bench.put(CODE, &super::code::then_nops(&[], 16));
        Ok(bench)
    }

    /// The same, but none of its pages has ever been touched from inside.
    pub fn untouched(host: &Host) -> Result<Self, Fail> {
        let mut bench = Self { vm: Vm::new(host, RAM)? };
        let ram = bench.vm.ram_mut();
        ram.fill(super::code::HLT[0]);
        ram[GDT as usize..HANDLERS as usize].fill(0);
        for (i, descriptor) in DESCRIPTORS.into_iter().enumerate() {
            bench.poke(GDT + 8 * i as u64, descriptor);
        }
        for (i, descriptor) in LOCAL_DESCRIPTORS.into_iter().enumerate() {
            bench.poke(LDT + 8 * i as u64, descriptor);
        }
        bench.write_tables();
        bench.poke(TSS + 4, RSP0);
        for (ist, top) in [(IST_NMI, NMI_STACK), (IST_FAULT, FAULT_STACK), (IST_DF, DF_STACK)] {
            bench.poke(TSS + 36 + 8 * (u64::from(ist) - 1), top);
        }
        bench.poke(TSS + 96, 0x68 << 48); // no I/O bitmap
        for vector in 0..=255 {
            let ist = match vector {
                NMI => IST_NMI,
                8 => IST_DF,
                _ => IST_FAULT,
            };
            bench.gate(vector, handler(vector), ist);
            bench.put(handler(vector), &[super::code::HLT, super::code::IRETQ].concat());
        }
        for (index, value) in
            [(msr::STAR, 0x1b << 48 | 0x08 << 32), (msr::LSTAR, SYSCALL_ENTRY), (msr::FMASK, 0x4_7700)]
        {
            if !bench.vm.set_msr(index, value)? {
                let errno = std::io::Error::other(format!("MSR {index:#x} was refused"));
                return Err(Error::Ioctl { call: "KVM_SET_MSRS", errno }.into());
            }
        }
        system_registers(bench.vm.state_mut());
        bench.put(CODE, &super::code::then_nops(&[], 16));
        bench.go(CODE);
        Ok(bench)
    }

    fn write_tables(&mut self) {
        const PRESENT_WRITE_USER: u64 = 7;
        const PRESENT_WRITE: u64 = 3;
        const ACCESSED_DIRTY: u64 = 0x60;
        for level in 0..3 {
            self.poke(TABLES + 0x1000 * level, (TABLES + 0x1000 * (level + 1)) | PRESENT_WRITE_USER | ACCESSED_DIRTY);
        }
        for page in (0x1000..RAM).step_by(0x1000).filter(|p| *p != UNMAPPED) {
            let user = (USER_STACK - 0x1000..USER_STACK).contains(&page) || (USER..USER_END).contains(&page);
            let flags = if user { PRESENT_WRITE_USER } else { PRESENT_WRITE };
            self.poke(TABLES + 0x3000 + (page >> 12) * 8, page | flags | ACCESSED_DIRTY);
        }
    }

    /// Writes to every page once from inside: the first touch of a page is an exit
    /// inside KVM, and an exit at the wrong moment changes the answers.
    fn touch_all(&mut self) -> Result<(), Fail> {
        self.put(CODE, super::code::TOUCH);
        let fresh = *self.vm.state();
        // Not the page tables: they are touched by being used.
        for (from, to) in [(GDT, TABLES), (HANDLERS, UNMAPPED), (UNMAPPED + 0x1000, USER_END)] {
            let regs = &mut self.vm.state_mut().regs;
            (regs.rip, regs.rdi, regs.rsi) = (CODE, from, to);
            match self.run()? {
                Came::Halt(at) if at == CODE + super::code::TOUCH.len() as u64 - 1 => {}
                other => return Err(unexpected("touching all pages", other)),
            }
        }
        *self.vm.state_mut() = fresh;
        Ok(())
    }

    /// Leads a fault to `to`, on the faults' stack.
    pub fn set_handler(&mut self, vector: u8, to: u64) {
        self.gate(vector, to, IST_FAULT);
    }

    fn gate(&mut self, vector: u8, to: u64, ist: u8) {
        let dpl: u64 = if vector == 3 { 3 } else { 0 };
        let low =
            to & 0xffff | KERNEL_CS << 16 | u64::from(ist) << 32 | (0x8e | dpl << 5) << 40 | (to >> 16 & 0xffff) << 48;
        self.poke(IDT + 16 * u64::from(vector), low);
        self.poke(IDT + 16 * u64::from(vector) + 8, to >> 32);
    }

    /// Sets the top of the NMI's stack.
    pub fn set_nmi_stack(&mut self, top: u64) {
        self.poke(TSS + 36, top);
    }

    /// Writes code, or any bytes.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.vm.ram_mut()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes a word.
    pub fn poke(&mut self, at: u64, word: u64) {
        self.put(at, &word.to_le_bytes());
    }

    /// Reads a word, 0 outside RAM.
    pub fn peek(&self, at: u64) -> u64 {
        crate::machine::paging::read_u64(self.vm.ram().bytes(), at).unwrap_or(0)
    }

    /// The frame at `at`.
    pub fn frame_at(&self, at: u64) -> Frame {
        let word = |i: u64| self.peek(at.wrapping_add(8 * i));
        Frame { rip: word(0), cs: word(1), rflags: word(2), rsp: word(3), ss: word(4) }
    }

    /// The frame that an entry on the stack with this top left, without error code.
    pub fn frame_on(&self, top: u64) -> Frame {
        self.frame_at(top - 40)
    }

    /// Puts a frame where the next IRET finds it.
    pub fn push_frame(&mut self, frame: Frame) {
        let rsp = self.vm.state().regs.rsp - 40;
        for (i, word) in (0..).zip(frame.words()) {
            self.poke(rsp + 8 * i, word);
        }
        self.vm.state_mut().regs.rsp = rsp;
    }

    /// Goes on in the kernel at `rip`, on its own stack.
    pub fn go(&mut self, rip: u64) {
        let regs = &mut self.vm.state_mut().regs;
        (regs.rip, regs.rsp) = (rip, STACK - 0x200);
    }

    /// Stands in ring 3 at `rip`.
    pub fn go_user(&mut self, rip: u64) {
        let state = self.vm.state_mut();
        (state.regs.rip, state.regs.rsp) = (rip, USER_STACK);
        (state.sregs.cs.selector, state.sregs.cs.dpl) = (USER_CS as u16, 3);
        (state.sregs.ss.selector, state.sregs.ss.dpl) = (USER_SS as u16, 3);
    }

    pub fn rip(&self) -> u64 {
        self.vm.state().regs.rip
    }

    /// Whether KVM says that NMIs are masked.
    pub fn masked(&self) -> bool {
        self.vm.state().events.nmi.masked != 0
    }

    /// Runs to the next exit.
    pub fn run(&mut self) -> Result<Came, Fail> {
        let exit = self.vm.run()?;
        if exit != Exit::Hlt {
            return Ok(Came::Exit(exit));
        }
        let at = self.rip().wrapping_sub(1);
        Ok(match at.wrapping_sub(HANDLERS) {
            offset @ 0..0x1000 if offset % 16 == 0 => Came::Handler((offset / 16) as u8),
            _ => Came::Halt(at),
        })
    }

    /// Runs to the NMI handler's first instruction: NMIs are masked there.
    pub fn enter_nmi(&mut self) -> Result<(), Fail> {
        self.vm.raise_nmi()?;
        match self.run()? {
            Came::Handler(NMI) => Ok(()),
            other => Err(unexpected("an NMI", other)),
        }
    }

    /// Stands behind the HLT of the NMI's handler, as if an NMI had come at `rip`.
    pub fn inside_nmi(host: &Host, rip: u64) -> Result<Self, Fail> {
        let mut bench = Self::new(host)?;
        bench.go(rip);
        bench.enter_nmi()?;
        Ok(bench)
    }

    /// Where the frame of the NMI that has just been taken leads to.
    pub fn nmi_from(&self) -> u64 {
        self.frame_on(NMI_STACK).rip
    }
}

/// The first instruction of a vector's handler.
pub fn handler(vector: u8) -> u64 {
    HANDLERS + 16 * u64::from(vector)
}

/// What to say where a probe cannot go on.
pub fn unexpected(after: &str, came: Came) -> Fail {
    Fail::Unexpected(format!("{after} led to {}", tell(came)))
}

/// A run's end in words.
pub fn tell(came: Came) -> String {
    match came {
        Came::Handler(NMI) => "the NMI handler".into(),
        Came::Handler(v) => format!("{}'s handler", vector_name(v)),
        Came::Halt(SYSCALL_ENTRY) => "the SYSCALL entry".into(),
        Came::Halt(at) => format!("a HLT at {at:#x}"),
        Came::Exit(Exit::InternalError { suberror, .. }) => format!("KVM_EXIT_INTERNAL_ERROR, suberror {suberror}"),
        Came::Exit(Exit::Interrupted) => "a run without end".into(),
        Came::Exit(Exit::Shutdown) => "KVM_EXIT_SHUTDOWN".into(),
        Came::Exit(Exit::Debug { pc, .. }) => format!("KVM_EXIT_DEBUG at {pc:#x}"),
        Came::Exit(other) => format!("exit {other:?}"),
    }
}

/// The manual's name of an exception.
pub fn vector_name(vector: u8) -> String {
    match vector {
        1 => "#DB".into(),
        3 => "#BP".into(),
        6 => "#UD".into(),
        8 => "#DF".into(),
        11 => "#NP".into(),
        12 => "#SS".into(),
        13 => "#GP".into(),
        14 => "#PF".into(),
        v => format!("vector {v}"),
    }
}

fn system_registers(state: &mut VcpuState) {
    let flat = |selector: u64, type_: u8, code: bool| Segment {
        limit: 0xffff_ffff,
        selector: selector as u16,
        type_,
        present: 1,
        db: (!code).into(),
        s: 1,
        l: code.into(),
        g: 1,
        ..Default::default()
    };
    let sregs = &mut state.sregs;
    sregs.cs = flat(KERNEL_CS, 0xb, true);
    let data = flat(KERNEL_SS, 3, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = Segment { base: TSS, limit: 0x67, selector: TR, type_: 0xb, present: 1, ..Default::default() };
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, DESCRIPTORS.len() as u16 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
    sregs.cr0 = 0x8001_0033; // PG, WP, NE, ET, MP, PE
    sregs.cr3 = TABLES;
    sregs.cr4 = 0x620; // OSXMMEXCPT, OSFXSR, PAE
    sregs.efer = 0xd01; // NXE, LMA, LME, SCE
    state.regs = Regs { rflags: rflags::FIXED, ..Default::default() };
    state.events = Default::default();
}
