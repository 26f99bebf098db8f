//! The machine: boot, run to a stop, step.
//!
//! Stops are HLT bytes, as in the lab's own machine. The interrupt controllers are the
//! VMM's, so every HLT comes here; one that is nobody's stop is the idle loop's.

use std::io::Write;
use std::time::{Duration, Instant};

use super::assist::{Assists, CLEAR_CPUID, Syscall};
use super::devices::{Devices, Effect};
use super::pit::Nanos;
use super::{Error, KERNEL_MAP, KernelSymbols, Options, boot, initrd, user};
use crate::kvm::{Exit, Host, VcpuState, Vm, rflags};
use crate::machine::memory::GuestMemory;
use crate::machine::{Raise, paging};

const HLT: u8 = 0xf4;

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Execution stands at a stop.
    At(u64),
    /// The user program wrote its checksum.
    Heartbeat(u32),
    /// The user program stands in mid-checksum.
    Mark,
    /// The CPU executed HLT with interrupts on; RIP is behind it.
    Idle,
    /// The console tells of an oops or a panic: the line.
    Oops(String),
    /// Triple fault.
    Shutdown,
    /// The kernel asked for a reset.
    Reset,
    /// HLT with interrupts off: nothing but an NMI could wake the CPU.
    Dead,
    /// The time was up.
    Budget,
    /// It cannot go on.
    Failed(String),
}

/// What a boot waits for, shown while it lasts.
pub type Progress<'a> = &'a mut dyn FnMut(&str, Duration);

/// A PC that runs Linux.
pub struct Pc {
    pub(super) vm: Vm,
    pub(super) devices: Devices,
    /// The kernel's symbols.
    pub symbols: KernelSymbols,
    pub(super) assists: Assists,
    pub(super) lstar: Option<u64>,
    pub(super) syscall: Syscall,
    /// When set, device time stands still there, and interrupts come only to a CPU
    /// that is idle.
    pub(super) frozen: Option<Nanos>,
    pub(super) started: Instant,
    patches: Vec<(usize, u8)>,
    /// Whether the kernel's complaint about an NMI without a source is skipped.
    skip_unknown_nmi: bool,
    /// Where the console's text was last looked at for an oops.
    pub(super) scanned: usize,
    hooks: Hooks,
    /// Whether a run ends where the CPU is idle.
    pub(super) stop_at_idle: bool,
    /// The hook that is being stepped over.
    passing: Option<u64>,
    /// How many snapshots were taken, and which the dirty log counts from.
    pub(super) snapshots: u64,
    pub(super) current: u64,
}

#[derive(Clone, Copy, Default)]
struct Hooks {
    page_fault: Option<u64>,
    syscall: Option<u64>,
    unknown_nmi: Option<u64>,
    printk: Option<u64>,
}

impl Pc {
    /// A machine with the kernel `elf` loaded, about to start.
    pub fn new(
        host: &Host,
        elf: &[u8],
        symbols: KernelSymbols,
        options: &Options,
        echo: Option<Box<dyn Write + Send>>,
    ) -> Result<Self, Error> {
        let mut vm = Vm::new(host, options.ram_mib << 20)?;
        vm.edit_cpuid(host, |entry| {
            match entry.function {
                // No local APIC (the interrupt controllers are 8259s), no machine
                // checks, and nothing that needs XSAVE: FXSAVE's state is saved.
                1 => {
                    entry.ecx &= !(1 << 3 | 1 << 5 | 1 << 12 | 1 << 15 | 1 << 21 | 1 << 24 | 7 << 26 | 1 << 29);
                    entry.edx &= !(1 << 9 | 1 << 7 | 1 << 14);
                }
                // Performance counters, whose NMIs would not be the lab's; XSAVE.
                0xa | 0xd => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
                0x8000_0001 => entry.ecx &= !(1 << 2),
                _ => {}
            }
            !(0x4000_0000..0x5000_0000).contains(&entry.function)
        })?;
        let init = initrd::with_init(options.initrd.clone(), &user::elf());
        let host_words = if vm.shows_hidden_cpuid() { CLEAR_CPUID } else { "" };
        let cmdline = options.command_line(host_words, vm.tsc_khz());
        let entry = boot::load(&mut vm, elf, &init, &cmdline)?;
        boot::set_registers(&mut vm, entry)?;
        let hooks = Hooks {
            page_fault: symbols.any(&["asm_exc_page_fault", "page_fault"]),
            syscall: symbols.get("entry_SYSCALL_64"),
            unknown_nmi: symbols.any(&["unknown_nmi_error", "unknown_nmi_error.constprop.0"]),
            printk: symbols.any(&["_printk", "printk"]),
        };
        Ok(Self {
            vm,
            devices: Devices::new(echo),
            symbols,
            assists: Assists::default(),
            lstar: None,
            syscall: Syscall::default(),
            frozen: None,
            started: Instant::now(),
            patches: Vec::new(),
            skip_unknown_nmi: true,
            scanned: 0,
            hooks,
            stop_at_idle: false,
            passing: None,
            snapshots: 0,
            current: 0,
        })
    }

    /// Runs until the user program has written its checksum twice.
    pub fn boot(&mut self, limit: Duration, progress: Progress) -> Result<u32, Error> {
        let start = Instant::now();
        let mut seen = None;
        loop {
            let waits = match (seen, self.devices.console().is_empty()) {
                (None, true) => "the kernel's first line",
                (None, false) => "the user program's first heartbeat",
                (Some(_), _) => "the user program's second heartbeat",
            };
            progress(waits, start.elapsed());
            let why = match self.run(&[], Duration::from_millis(500))? {
                Stop::Heartbeat(sum) if sum != user::checksum() => {
                    format!("its user program computes {sum:#x}, not {:#x}: this host cannot run it", user::checksum())
                }
                Stop::Heartbeat(sum) if seen == Some(sum) => return Ok(sum),
                Stop::Heartbeat(sum) => {
                    seen = Some(sum);
                    continue;
                }
                Stop::Budget if start.elapsed() > limit => {
                    format!(
                        "{} s went by while it waited for {waits} (raise the limit, or see where it stands: {})",
                        limit.as_secs(),
                        self.symbols.show(self.rip())
                    )
                }
                Stop::Budget | Stop::Mark | Stop::Idle => continue,
                other => format!("{other:?} at {}", self.symbols.show(self.rip())),
            };
            return Err(Error::Boot { why, console: self.console_tail(12) });
        }
    }

    /// What help the host needed so far.
    pub fn assists(&self) -> Assists {
        self.assists
    }

    /// How often KVM_RUN was called.
    pub fn runs(&self) -> u64 {
        self.vm.runs()
    }

    /// Registers and events.
    pub fn state(&self) -> &VcpuState {
        self.vm.state()
    }

    /// Registers and events, to change.
    pub fn state_mut(&mut self) -> &mut VcpuState {
        self.vm.state_mut()
    }

    /// The instruction that comes next.
    pub fn rip(&self) -> u64 {
        self.vm.state().regs.rip
    }

    /// The current privilege level.
    pub fn cpl(&self) -> u8 {
        self.vm.state().sregs.ss.dpl
    }

    /// Guest memory by virtual address.
    pub fn memory(&self) -> GuestMemory<'_> {
        GuestMemory(self.vm.ram().bytes())
    }

    /// Guest-physical address; the kernel's image lies where it was linked to.
    pub fn physical(&self, addr: u64) -> Option<u64> {
        match addr.checked_sub(KERNEL_MAP) {
            Some(offset) if offset < 0x4000_0000 => Some(offset),
            _ => paging::translate(self.vm.ram().bytes(), self.state().sregs.cr3, addr),
        }
    }

    /// Overwrites bytes of the kernel; `false` where they are not mapped.
    pub fn write_kernel(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let Some(at) = self.physical(addr).map(|p| p as usize) else { return false };
        let to = self.vm.ram_mut().get_mut(at..at + bytes.len());
        to.is_some_and(|to| {
            to.copy_from_slice(bytes);
            true
        })
    }

    /// Whether a run ends where the CPU is idle.
    pub fn set_stop_at_idle(&mut self, on: bool) {
        self.stop_at_idle = on;
    }

    /// An NMI arrives and is delivered where execution stands: by `KVM_NMI`, or by the
    /// vCPU's events.
    pub fn deliver_nmi(&mut self, raise: Raise, limit: Duration) -> Result<Stop, Error> {
        let Some(entry) = self.handler(2) else { return Ok(Stop::Failed("the IDT has no NMI handler".into())) };
        match raise {
            Raise::Ioctl => self.vm.raise_nmi()?,
            Raise::Events => self.vm.state_mut().events.nmi.pending = 1,
        }
        self.run(&[entry], limit)
    }

    /// Whether the kernel may say that an NMI had no source. Not saying it is faster.
    pub fn let_kernel_complain(&mut self, on: bool) {
        self.skip_unknown_nmi = !on;
    }

    fn patch(&mut self, addr: u64) {
        let Some(at) = self.physical(addr).map(|p| p as usize) else { return };
        if self.patches.iter().any(|(p, _)| *p == at) {
            return;
        }
        if let Some(byte) = self.vm.ram_mut().get_mut(at) {
            let old = std::mem::replace(byte, HLT);
            self.patches.push((at, old));
        }
    }

    fn unpatch(&mut self) {
        let ram = self.vm.ram_mut();
        for (at, old) in self.patches.drain(..).rev() {
            ram[at] = old;
        }
    }

    /// Runs until execution stands at one of `stops`, or something else ends it, for at
    /// most `limit`. At least one instruction is executed: RIP itself may be no stop.
    pub fn run(&mut self, stops: &[u64], limit: Duration) -> Result<Stop, Error> {
        let start = Instant::now();
        loop {
            if self.frozen.is_none() {
                self.tick();
            }
            for stop in stops {
                self.patch(*stop);
            }
            let hooks = self.hooks;
            // Where the compiler inlined the complaint, its printk is skipped.
            let skip = hooks.unknown_nmi.or(hooks.printk).filter(|_| self.skip_unknown_nmi && self.frozen.is_some());
            let page_fault = hooks.page_fault.filter(|_| self.syscall != Syscall::Complete);
            let syscall = hooks.syscall.filter(|_| self.syscall == Syscall::Unknown);
            for hook in [skip, page_fault, syscall].into_iter().flatten() {
                if self.passing != Some(hook) {
                    self.patch(hook);
                }
            }
            // What the events say of interrupts holds. A bit in here that an earlier exit
            // left behind would raise its interrupt once more (KVM_SET_SREGS queues it).
            self.vm.state_mut().sregs.interrupt_bitmap = [0; 4];
            let exit = self.vm.run();
            let patched = |addr| self.physical(addr).is_some_and(|p| self.patches.iter().any(|(a, _)| *a as u64 == p));
            let here = self.rip().wrapping_sub(1);
            let ours = matches!(exit, Ok(Exit::Hlt)) && self.cpl() == 0 && patched(here);
            self.unpatch();
            if ours {
                self.vm.state_mut().regs.rip = here;
                match () {
                    () if stops.contains(&here) => return Ok(Stop::At(here)),
                    () if self.skips(here) => self.return_from_function(),
                    () if Some(here) == page_fault && self.assist_syscall() => self.syscall = Syscall::Assisted,
                    () if Some(here) == syscall => {
                        self.syscall = Syscall::Complete;
                    }
                    () => {
                        if let Some(stop) = self.pass()? {
                            return Ok(stop);
                        }
                    }
                }
                continue;
            }
            if let Some(stop) = self.handle(exit?)? {
                return Ok(stop);
            }
            if start.elapsed() > limit {
                return Ok(Stop::Budget);
            }
        }
    }

    fn handle(&mut self, exit: Exit) -> Result<Option<Stop>, Error> {
        let now = self.now();
        Ok(match exit {
            Exit::Hlt => self.idle(),
            Exit::Out { port: user::HEARTBEAT, value } => Some(Stop::Heartbeat(value)),
            Exit::Out { port: user::MARK, .. } => Some(Stop::Mark),
            Exit::Out { port, value } => match self.devices.write(port, value, now) {
                Effect::Done if value == u32::from(b'\n') => self.scan_console(),
                Effect::Done => None,
                Effect::Reset => Some(Stop::Reset),
            },
            Exit::In { port } => {
                let value = self.devices.read(port, now);
                self.vm.answer_read(value)?;
                None
            }
            Exit::Mmio { write, .. } => {
                if !write {
                    self.vm.answer_read(u64::MAX)?;
                }
                None
            }
            Exit::Interrupted => None,
            Exit::Shutdown => Some(Stop::Shutdown),
            Exit::InternalError { suberror: 1, bytes } if self.assist_emulation(bytes) => None,
            Exit::InternalError { suberror, bytes } => {
                let at = self.symbols.show(self.rip());
                Some(Stop::Failed(format!("KVM could not execute {bytes:02x?} at {at} (suberror {suberror})")))
            }
            Exit::Debug { pc, .. } => Some(Stop::Failed(format!("a debug exit at {pc:#x} that nobody asked for"))),
            Exit::Other(reason) => Some(Stop::Failed(format!("KVM exit {reason}"))),
            Exit::XenHypercall { number } => {
                Some(Stop::Failed(format!("Xen's hypercall {number}, which nobody asked for")))
            }
        })
    }

    /// Whether `addr` begins a function that is skipped.
    pub(super) fn skips(&self, addr: u64) -> bool {
        if !self.skip_unknown_nmi || self.frozen.is_none() {
            return false;
        }
        match self.hooks.unknown_nmi {
            Some(function) => function == addr,
            None if self.hooks.printk == Some(addr) => {
                let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
                let caller = self.symbols.show(self.memory().word(cr3, rsp).unwrap_or(0));
                // Without the offset, and without `.cold` and its like.
                let function = caller.split(['+', '.']).next().unwrap_or("");
                ["default_do_nmi", "exc_nmi", "do_nmi"].contains(&function)
            }
            None => false,
        }
    }

    /// Leaves the function at whose first instruction execution stands.
    pub(super) fn return_from_function(&mut self) {
        let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        if let Some(to) = self.memory().word(cr3, rsp) {
            let regs = &mut self.vm.state_mut().regs;
            (regs.rip, regs.rsp) = (to, rsp + 8);
        }
    }

    /// Gets past a hook that had nothing to do.
    fn pass(&mut self) -> Result<Option<Stop>, Error> {
        use iced_x86::Mnemonic;
        let Some(d) = self.next_instruction() else { return Ok(None) };
        let regs = &mut self.vm.state_mut().regs;
        match d.insn.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 => {}
            Mnemonic::Cld => regs.rflags &= !rflags::DF,
            _ => {
                self.passing = Some(self.rip());
                let stop = self.step();
                self.passing = None;
                return Ok(match stop? {
                    Stop::At(_) => None,
                    other => Some(other),
                });
            }
        }
        regs.rip = d.insn.next_ip();
        Ok(None)
    }
}
