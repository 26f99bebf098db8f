//! The machine: boot, run to a stop, step.
//!
//! Stops are HLT bytes, as in the lab's own machine. The interrupt controllers are the
//! VMM's, so every HLT comes here; one that is nobody's stop is the idle loop's.

use std::io::Write;
use std::time::{Duration, Instant};

use super::devices::{Devices, Effect};
use super::pit::Nanos;
use super::{Error, boot, initrd};
use crate::kernels::linux::{Assists, HOST_WORDS, Hooks, KERNEL_MAP, KernelSymbols, Native, Options, user};
use crate::kvm::{Exit, Host, VcpuState, Vm};
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

/// A PC that runs Linux.
pub struct Pc {
    pub(in crate::kernels) vm: Vm,
    pub(in crate::kernels) devices: Devices,
    /// The kernel's symbols.
    pub symbols: KernelSymbols,
    pub(in crate::kernels) assists: Assists,
    pub(in crate::kernels) lstar: Option<u64>,
    pub(in crate::kernels) syscall: Native,
    /// Whether the user program's OUTs reach the VMM.
    pub(in crate::kernels) user_out: Native,
    /// When set, device time stands still there, and interrupts come only to a CPU
    /// that is idle.
    pub(in crate::kernels) frozen: Option<Nanos>,
    pub(in crate::kernels) started: Instant,
    patches: Vec<(usize, u8)>,
    /// Whether the kernel's complaint about an NMI without a source is skipped.
    pub(in crate::kernels) skip_unknown_nmi: bool,
    /// Where the console's text was last looked at for an oops.
    pub(in crate::kernels) scanned: usize,
    pub(in crate::kernels) hooks: Hooks,
    /// Whether a run ends where the CPU is idle.
    pub(in crate::kernels) stop_at_idle: bool,
    /// The hook that is being stepped over.
    pub(in crate::kernels) passing: Option<u64>,
    /// How many snapshots were taken, and which the dirty log counts from.
    pub(in crate::kernels) snapshots: u64,
    pub(in crate::kernels) current: u64,
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
        let mut vm = Vm::new(host, options.ram_bytes()?)?;
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
        let assists = Assists { command_line: vm.shows_hidden_cpuid(), ..Assists::default() };
        let cmdline = options.command_line(if assists.command_line { HOST_WORDS } else { "" }, vm.tsc_khz());
        let entry = boot::load(&mut vm, elf, &init, &cmdline)?;
        boot::set_registers(&mut vm, entry)?;
        let hooks = Hooks::of(&symbols);
        Ok(Self {
            vm,
            devices: Devices::new(echo),
            symbols,
            assists,
            lstar: None,
            syscall: Native::default(),
            user_out: Native::default(),
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
        // The next restore copies all: KVM's log does not know of this.
        self.current = 0;
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
        raise.on(&mut self.vm)?;
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
            let page_fault = hooks.page_fault.filter(|_| self.syscall != Native::Complete);
            let syscall = hooks.syscall.filter(|_| self.syscall == Native::Unknown);
            let protection = hooks.general_protection.filter(|_| self.user_out != Native::Complete);
            for hook in [skip, page_fault, syscall, protection].into_iter().flatten() {
                if self.passing != Some(hook) {
                    self.patch(hook);
                }
            }
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
                    () if Some(here) == page_fault && self.assist_syscall() => self.syscall = Native::Assisted,
                    () if Some(here) == syscall => {
                        self.syscall = Native::Complete;
                    }
                    () if Some(here) == protection => {
                        let stop = match self.assist_out() {
                            None => self.pass()?,
                            stop => stop,
                        };
                        if let Some(stop) = stop {
                            return Ok(stop);
                        }
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
            Exit::Out { port: port @ (user::HEARTBEAT | user::MARK), value } => {
                self.user_out = Native::Complete;
                Some(if port == user::MARK { Stop::Mark } else { Stop::Heartbeat(value) })
            }
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
            Exit::WriteMsr { index, .. } => {
                Some(Stop::Failed(format!("a WRMSR to {index:#x} that nobody asked to see")))
            }
            Exit::Other(reason) => Some(Stop::Failed(format!("KVM exit {reason}"))),
            Exit::XenHypercall { number } => {
                Some(Stop::Failed(format!("Xen's hypercall {number}, which nobody asked for")))
            }
        })
    }
}
