//! The machine: boot, run to a stop, step.
//!
//! Stops are HLT bytes, as in the lab's own machine. The interrupt controllers are the
//! VMM's, so every HLT comes here; one that is nobody's stop is the idle loop's.

use std::io::Write;
use std::time::Duration;

use super::assists::{Assists, Native};
use super::board::Board;
use super::cpu_time::Limit;
use super::devices::{Devices, Effect};
use super::gs::GsBases;
use super::pit::Nanos;
use super::program::{self, Program};
use super::stop::Stop;
use super::{Error, Hooks, KernelSymbols, Module, boot, multiboot};
use crate::cpu::Lazy;
use crate::kvm::{Exit, Host, VcpuState, Vm};
use crate::machine::Raise;
use crate::machine::memory::GuestMemory;

/// Ticks of the time-stamp counter that go by from one read to the next, in cases.
pub const CLOCK_PACE: u64 = 1000;

/// How a run begins, and what it looks at.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// An event comes before the first instruction.
    pub(super) delivers: bool,
    /// The machine looks in where hooks are, and where the clock is read. Where the stops are all
    /// that may come next, there is no need to.
    pub(super) looks_in: bool,
    /// It is one instruction: the handler of an interrupt that comes after it is a stop, too.
    pub(super) steps: bool,
}

/// A PC that runs Linux.
pub struct Pc {
    pub(super) vm: Vm,
    pub(super) board: Board,
    pub(super) devices: Devices,
    /// The kernel's symbols.
    pub symbols: KernelSymbols,
    pub(super) assists: Assists,
    pub(super) lstar: Option<u64>,
    pub(super) syscall: Native,
    /// Whether the user program's OUTs reach the VMM.
    pub(super) user_out: Native,
    /// When set, device time stands still there, and interrupts come only to a CPU
    /// that is idle.
    pub(super) frozen: Option<Nanos>,
    /// Where the time-stamp counter stands, once the kernel has come up.
    pub(super) held: Option<u64>,
    /// Ticks from one read of it to the next.
    pub(super) pace: u64,
    /// Instructions that are known to read it.
    pub(super) clock_reads: Vec<u64>,
    /// The thread's CPU time when the machine was made.
    pub(super) started: Duration,
    /// What was skipped since then, the CPU being idle.
    pub(super) idled: Nanos,
    pub(super) patches: Vec<(usize, u8)>,
    /// What the lab's user program reports.
    pub(super) program: Program,
    /// The kernel's own page table.
    pub(super) root: Option<u64>,
    /// Where the console's text was last looked at for an oops.
    pub(super) scanned: usize,
    pub(super) hooks: Hooks,
    /// Whether a run ends where the kernel says anything.
    pub(super) silent: bool,
    /// Whether a run ends where the CPU is idle.
    pub(super) stop_at_idle: bool,
    /// Breakpoints of the lab's that are to be answered for.
    pub(super) breakpoints: u32,
    /// Whether this host's CPU clears AC when it delivers an event.
    pub(super) delivery_clears_ac: bool,
    /// The hook that is being stepped over.
    pub(super) passing: Option<u64>,
    /// The bases of GS, once they are known for certain.
    pub(super) gs: Option<GsBases>,
    /// How many snapshots were taken, and which the dirty log counts from.
    pub(super) snapshots: u64,
    pub(super) current: u64,
    /// Pages that were written in the guest's place, of which KVM's log does not learn.
    pub(super) written: Vec<u64>,
}

impl Pc {
    /// A machine without a kernel. Its console goes to `echo` as well.
    pub fn new(
        host: &Host,
        board: Board,
        symbols: KernelSymbols,
        program: Program,
        echo: Option<Box<dyn Write + Send>>,
    ) -> Result<Self, Error> {
        let vm = board.vm(host)?;
        let assists = Assists::default();
        Ok(Self {
            vm,
            devices: Devices::new(board.apic, echo),
            board,
            symbols,
            program,
            hooks: Hooks::default(),
            root: None,
            assists,
            lstar: None,
            syscall: Native::default(),
            user_out: Native::default(),
            frozen: None,
            held: None,
            pace: CLOCK_PACE,
            clock_reads: Vec::new(),
            started: super::cpu_time::now()?,
            idled: 0,
            patches: Vec::new(),
            scanned: 0,
            silent: false,
            stop_at_idle: false,
            breakpoints: 0,
            delivery_clears_ac: host.quirks().delivery_clears_ac,
            passing: None,
            gs: None,
            snapshots: 0,
            current: 0,
            written: Vec::new(),
        })
    }

    /// Loads an ELF kernel by the 64-bit boot protocol, which then is about to start.
    pub fn load(&mut self, elf: &[u8], initrd: &[u8], cmdline: &str) -> Result<(), Error> {
        let entry = boot::load(&mut self.vm, elf, initrd, cmdline)?;
        boot::set_registers(&mut self.vm, entry)
    }

    /// Loads a kernel by multiboot 1, which then is about to start.
    pub fn load_multiboot(&mut self, image: &[u8], cmdline: &str, modules: &[Module]) -> Result<(), Error> {
        multiboot::load(&mut self.vm, image, cmdline, modules)
    }

    /// Where the machine looks in while this kernel runs.
    pub fn set_hooks(&mut self, hooks: Hooks) {
        self.hooks = hooks;
    }

    /// Where SYSCALL goes.
    pub fn set_syscall(&mut self, to: u64) {
        self.hooks.syscall = Some(to);
    }

    /// The frequency of the guest's time-stamp counter, where this KVM tells it.
    pub fn tsc_khz(&self) -> Option<u32> {
        self.vm.tsc_khz()
    }

    /// The user program's checksum.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Whether CPUID shows features that it was told to hide, so that a kernel must be told otherwise.
    pub fn shows_hidden_cpuid(&self) -> bool {
        self.vm.shows_hidden_cpuid()
    }

    /// The kernel was told so on its command line.
    pub fn note_words(&mut self) {
        self.assists.command_line = true;
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

    /// Guest RAM.
    pub fn ram(&self) -> &[u8] {
        self.vm.ram().bytes()
    }

    /// Guest memory by virtual address.
    pub(super) fn memory(&self) -> GuestMemory<'_> {
        GuestMemory(self.vm.ram().bytes())
    }

    /// Debug, vector and model-specific registers, as the vCPU has them.
    pub fn lazy(&self) -> Result<Lazy, Error> {
        Ok(self.vm.whole_lazy()?)
    }

    /// Whether a line on the console ends a run, whatever it says.
    pub fn set_silent(&mut self, on: bool) {
        self.silent = on;
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
        self.deliver_to(entry, limit)
    }

    /// Runs on with an event that comes before the next instruction, to its handler's first.
    pub(super) fn deliver_to(&mut self, handler: u64, limit: Duration) -> Result<Stop, Error> {
        self.enter(&[handler], limit, Way { delivers: true, looks_in: true, steps: false })
    }

    /// Runs until execution stands at one of `stops`, or something else ends it, for at
    /// most `limit` of CPU time. At least one instruction is executed: RIP itself may be no
    /// stop.
    pub fn run(&mut self, stops: &[u64], limit: Duration) -> Result<Stop, Error> {
        self.enter(stops, limit, Way { delivers: false, looks_in: true, steps: false })
    }

    /// The same.
    pub(super) fn enter(&mut self, stops: &[u64], limit: Duration, way: Way) -> Result<Stop, Error> {
        let Way { mut delivers, looks_in, steps } = way;
        let mut interrupt = None;
        let limit = Limit::new(limit)?;
        loop {
            let delivered = std::mem::take(&mut delivers);
            if !delivered && self.reads_clock(self.rip()) && self.answer_rdtsc() && stops.contains(&self.rip()) {
                return Ok(Stop::At(self.rip()));
            }
            let taken = match self.frozen {
                None => {
                    self.tick();
                    None
                }
                Some(_) => self.offer(true),
            };
            interrupt = taken.filter(|_| steps).and_then(|vector| self.handler(vector)).or(interrupt);
            for stop in stops.iter().chain(&interrupt) {
                self.patch(*stop);
            }
            let in_force = !self.hooks.late || self.lstar().is_some();
            let none = Hooks::default();
            let hooks = if in_force { &self.hooks } else { &none };
            let panics = hooks.panics.len();
            let skip = hooks.complaint.as_ref().map(|s| s.function).filter(|_| self.frozen.is_some());
            let page_fault = hooks.page_fault.filter(|_| self.syscall != Native::Complete);
            let syscall = hooks.syscall.filter(|_| self.syscall == Native::Unknown);
            let protection = hooks.general_protection.filter(|_| self.user_out != Native::Complete);
            let notifier = hooks.notifier.filter(|_| self.breakpoints > 0);
            let reads = if looks_in && self.held.is_some() { self.clock_reads.clone() } else { Vec::new() };
            let looked_at = looks_in.then(|| reads.iter().chain(&hooks.panics).chain(&skip)).into_iter().flatten();
            let user = self.user_stops(stops.iter().chain(looked_at));
            if let Some(user) = &user {
                self.patch(user.handler);
            }
            for hook in [skip, notifier, page_fault, syscall, protection].into_iter().flatten().chain(reads) {
                if looks_in && self.passing != Some(hook) {
                    self.patch(hook);
                }
            }
            for i in 0..panics {
                if looks_in && self.passing != Some(self.hooks.panics[i]) {
                    self.patch(self.hooks.panics[i]);
                }
            }
            let exit = self.vm.run();
            let patched = |addr| self.physical(addr).is_some_and(|p| self.patches.iter().any(|(a, _)| *a as u64 == p));
            let mut here = self.rip().wrapping_sub(1);
            let ours = matches!(exit, Ok(Exit::Hlt)) && (self.cpl() == 0 || user.is_some()) && patched(here);
            self.unpatch();
            if ours {
                self.assist_user_hlt();
                self.vm.state_mut().regs.rip = here;
                if let Some(stop) = user.as_ref().and_then(|user| self.undo_user_stop(user, stops)) {
                    here = stop;
                }
                match () {
                    () if self.hooks.panics.contains(&here) && !stops.contains(&here) => {
                        return Ok(Stop::Oops(format!("it goes to {}", self.symbols.show(here))));
                    }
                    () if stops.contains(&here) || interrupt == Some(here) => return Ok(Stop::At(here)),
                    () if self.reads_clock(here) => {}
                    () if self.skips(here) => self.return_from_function()?,
                    () if self.answers_breakpoint(here) => self.answer_breakpoint()?,
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
            if limit.is_over()? {
                return Ok(Stop::Budget);
            }
        }
    }

    fn handle(&mut self, exit: Exit) -> Result<Option<Stop>, Error> {
        let now = self.now();
        Ok(match exit {
            Exit::Hlt => self.idle(),
            Exit::Out { port, value } if self.program.is(port) => {
                self.user_out = Native::Complete;
                Some(match port {
                    port if port == self.program.heartbeat => Stop::Heartbeat(value),
                    program::LDT_MARK => Stop::LdtMark,
                    _ => Stop::Mark,
                })
            }
            Exit::Out { port, value } => match self.devices.write(port, value, now) {
                Effect::Done if value == u32::from(b'\n') => self.scan_console(),
                Effect::Done => None,
                Effect::Reset => Some(Stop::Reset),
                Effect::Exit(value) => Some(Stop::Exited(value)),
            },
            Exit::In { port } => {
                let value = self.devices.read(port, now);
                self.vm.answer_read(value)?;
                None
            }
            Exit::Mmio { addr, write, value } => self.access(addr, write.then_some(value))?,
            Exit::Interrupted | Exit::InterruptWindow | Exit::TaskPriority => None,
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
            Exit::ReadMsr { index } => Some(Stop::Failed(format!("an RDMSR of {index:#x} that nobody asked to see"))),
            Exit::Other(reason) => Some(Stop::Failed(format!("KVM exit {reason}"))),
            Exit::XenHypercall { number } => {
                Some(Stop::Failed(format!("Xen's hypercall {number}, which nobody asked for")))
            }
        })
    }
}
