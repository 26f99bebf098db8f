//! A recorded run as `gdbstub` sees it: one thread, registers and memory that can be read, and
//! execution both ways.

use gdbstub::common::Signal;
use gdbstub::stub::SingleThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::reverse_exec::{
    ReplayLogPosition, ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps,
};
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep, SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::exec_file::ExecFileOps;
use gdbstub::target::ext::host_io::HostIoOps;
use gdbstub::target::ext::monitor_cmd::MonitorCmdOps;
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;

use super::Error;
use super::run::Run;
use super::search::{Stops, Watch, Way, Why};
use crate::cpu::Lazy;

/// How gdb wants the run to go on.
#[derive(Clone, Copy, Debug)]
enum Going {
    Step(Way),
    Continue(Way),
}

/// A run in gdb's hands.
pub struct Debugged<'a> {
    pub(super) run: Box<dyn Run + 'a>,
    /// The image as an ELF file, with all symbols.
    pub(super) file: Vec<u8>,
    pub(super) stops: Stops,
    /// Makes text that a guest has a part in harmless to a terminal.
    pub(super) plain: fn(&str) -> String,
    going: Going,
}

impl<'a> Debugged<'a> {
    /// A run at its first moment.
    pub fn new(run: Box<dyn Run + 'a>, plain: fn(&str) -> String) -> Self {
        let file = run.file();
        Self { run, file, stops: Stops::default(), plain, going: Going::Continue(Way::Forwards) }
    }

    /// Moves as gdb has asked, and says why it stopped there.
    pub(super) fn go_on(&mut self) -> Result<SingleThreadStopReason<u64>, Error> {
        let (to, why) = match self.going {
            Going::Continue(way) => self.stops.next(&*self.run, way),
            Going::Step(way) => {
                let (nearest, why) = self.stops.next(&*self.run, way);
                let one = match way {
                    Way::Forwards => self.run.log().now + 1,
                    Way::Backwards => self.run.log().now.wrapping_sub(1),
                };
                match why {
                    // A step stops after one move, whatever is there.
                    Why::Watch(_) if nearest == one => (one, why),
                    Why::End if nearest == self.run.log().now => (nearest, why),
                    _ => (one, Why::Goal),
                }
            }
        };
        self.run.go(to)?;
        if self.stops.goal == Some(to) {
            self.stops.goal = None;
        }
        Ok(match (why, self.going) {
            (Why::Watch(Watch { addr, kind, .. }), _) => SingleThreadStopReason::Watch { tid: (), kind, addr },
            (Why::Breakpoint, _) => SingleThreadStopReason::SwBreak(()),
            (Why::End, Going::Continue(way) | Going::Step(way)) => {
                let pos = match way {
                    Way::Forwards => ReplayLogPosition::End,
                    Way::Backwards => ReplayLogPosition::Begin,
                };
                SingleThreadStopReason::ReplayLog { tid: None, pos }
            }
            (Why::Goal, Going::Step(_)) => SingleThreadStopReason::DoneStep,
            (Why::Goal, Going::Continue(_)) => SingleThreadStopReason::Signal(Signal::SIGTRAP),
        })
    }
}

/// Memory and registers are those of a recorded run: nothing may be changed.
fn read_only<T, E>() -> Result<T, TargetError<E>> {
    Err(TargetError::NonFatal)
}

impl Target for Debugged<'_> {
    type Arch = X86_64_SSE;
    type Error = Error;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Self>> {
        Some(self)
    }

    fn support_host_io(&mut self) -> Option<HostIoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Debugged<'_> {
    fn read_registers(&mut self, out: &mut X86_64CoreRegs) -> TargetResult<(), Self> {
        let state = self.run.vcpu();
        let r = &state.regs;
        out.regs = [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
            r.r15,
        ];
        (out.rip, out.eflags) = (r.rip, r.rflags as u32);
        let s = &state.sregs;
        out.segments.cs = s.cs.selector.into();
        out.segments.ss = s.ss.selector.into();
        out.segments.ds = s.ds.selector.into();
        out.segments.es = s.es.selector.into();
        out.segments.fs = s.fs.selector.into();
        out.segments.gs = s.gs.selector.into();
        vectors(&self.run.lazy().map_err(TargetError::Fatal)?, out);
        Ok(())
    }

    fn write_registers(&mut self, _: &X86_64CoreRegs) -> TargetResult<(), Self> {
        read_only()
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let mut done = 0;
        while done < data.len() {
            let at = start.wrapping_add(done as u64);
            let piece = (4096 - (at % 4096) as usize).min(data.len() - done);
            if !self.run.read(at, &mut data[done..done + piece]) {
                break;
            }
            done += piece;
        }
        if done == 0 { Err(TargetError::NonFatal) } else { Ok(done) }
    }

    fn write_addrs(&mut self, _: u64, _: &[u8]) -> TargetResult<(), Self> {
        read_only()
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

/// The x87 and SSE registers, from the XSAVE area (SDM vol. 1, 13.4 and 10.5.1).
fn vectors(lazy: &Lazy, out: &mut X86_64CoreRegs) {
    let bytes: Vec<u8> = lazy.vector.iter().flat_map(|word| word.to_le_bytes()).collect();
    let part = |at: usize, len: usize| bytes.get(at..at + len);
    let half = |at: usize| part(at, 2).map_or(0, |b| u32::from(b[0]) | u32::from(b[1]) << 8);
    (out.fpu.fctrl, out.fpu.fstat, out.fpu.fop) = (half(0), half(2), half(6));
    // One bit for each register in use; gdb has two bits, 3 for an empty one.
    let used = part(4, 1).map_or(0, |b| b[0]);
    out.fpu.ftag = (0..8).filter(|i| used >> i & 1 == 0).map(|i| 3 << (2 * i)).sum();
    for (i, st) in out.st.iter_mut().enumerate() {
        if let Some(bytes) = part(32 + 16 * i, 10).and_then(|b| b.try_into().ok()) {
            *st = bytes;
        }
    }
    for (i, xmm) in out.xmm.iter_mut().enumerate() {
        *xmm = part(160 + 16 * i, 16).and_then(|b| b.try_into().ok()).map_or(0, u128::from_le_bytes);
    }
    out.mxcsr = part(24, 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
}

impl SingleThreadResume for Debugged<'_> {
    fn resume(&mut self, _: Option<Signal>) -> Result<(), Error> {
        self.going = Going::Continue(Way::Forwards);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, (), Self>> {
        Some(self)
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, (), Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Debugged<'_> {
    fn step(&mut self, _: Option<Signal>) -> Result<(), Error> {
        self.going = Going::Step(Way::Forwards);
        Ok(())
    }
}

impl ReverseStep<()> for Debugged<'_> {
    fn reverse_step(&mut self, (): ()) -> Result<(), Error> {
        self.going = Going::Step(Way::Backwards);
        Ok(())
    }
}

impl ReverseCont<()> for Debugged<'_> {
    fn reverse_cont(&mut self) -> Result<(), Error> {
        self.going = Going::Continue(Way::Backwards);
        Ok(())
    }
}

impl Breakpoints for Debugged<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

// The record of the run says where a breakpoint is met: nothing is written to the guest.
impl SwBreakpoint for Debugged<'_> {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.stops.breakpoints.insert(addr);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.stops.breakpoints.remove(&addr))
    }
}

impl HwBreakpoint for Debugged<'_> {
    fn add_hw_breakpoint(&mut self, addr: u64, kind: usize) -> TargetResult<bool, Self> {
        self.add_sw_breakpoint(addr, kind)
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, kind: usize) -> TargetResult<bool, Self> {
        self.remove_sw_breakpoint(addr, kind)
    }
}

impl HwWatchpoint for Debugged<'_> {
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.stops.watches.push(Watch { addr, len, kind });
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let at = self.stops.watches.iter().position(|w| *w == Watch { addr, len, kind });
        at.map(|i| self.stops.watches.remove(i));
        Ok(at.is_some())
    }
}
