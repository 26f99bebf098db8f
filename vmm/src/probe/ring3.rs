//! Ring 3: ways there and back, and stops.

use super::bench::{
    Bench, CODE, Came, FAULT_STACK, Fail, Frame, LDT_CS_32, LDT_SS_16, LDTR, NMI_STACK, SS_16, SYSCALL_ENTRY, USER,
    USER_CS, handler, tell, unexpected,
};
use super::code::*;
use super::spec::{Answer, Probe, source};
use super::stepping::{past, step};
use crate::cpu::rflags;
use crate::kvm::{Debug, Exit, Host};

const USED: &str = "scenarios with user code stand on it";

pub const PROBES: &[Probe] = &[
    Probe {
        id: "ring3-iretq",
        property: "an iretq to ring 3 arrives, and a HLT byte there is a #GP at it",
        right: &["arrives"],
        source: source::IRET,
        lab: USED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, IRETQ);
            bench.push_frame(Frame::user(USER));
            Ok(arrives(&mut bench)?.0)
        },
    },
    Probe {
        id: "ring3-iretq-ss16",
        property: "an iretq to ring 3 with a 16-bit stack segment (espfix)",
        right: &["arrives"],
        source: source::IRET,
        lab: USED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, IRETQ);
            bench.push_frame(Frame { ss: SS_16, ..Frame::user(USER) });
            let (answer, frame) = arrives(&mut bench)?;
            Ok(if frame.ss == SS_16 { answer } else { Answer::with("with another SS", format!("{:#x}", frame.ss)) })
        },
    },
    Probe {
        id: "ring3-iretq-ldt",
        property: "an iretq to 32-bit code with a 16-bit stack segment, both from the LDT",
        right: &["arrives"],
        source: source::IRET,
        lab: "host-limit for scenarios with such a segment where it does not arrive",
        measure: |host| Ok(to_ldt(host)?.0),
    },
    Probe {
        id: "ring3-iretq-ldt-rsp",
        property: "bits 31:16 of RSP behind that iretq (what espfix is about)",
        right: &["the kernel's"],
        source: source::ESPFIX,
        lab: "host-limit for scenarios with such a segment unless they are the kernel's",
        measure: |host| {
            let (answer, frame) = to_ldt(host)?;
            let rsp = format!("RSP {:#x}", frame.rsp);
            Ok(match () {
                () if answer.text != "arrives" => answer,
                () if frame.rsp >> 16 & 0xffff == STACK_16 >> 16 => Answer::with("the frame's", rsp),
                () if frame.rsp & 0xffff == STACK_16 & 0xffff => Answer::with("the kernel's", rsp),
                () => Answer::with("something else", rsp),
            })
        },
    },
    Probe {
        id: "ring3-sysretq",
        property: "a sysretq arrives in ring 3",
        right: &["arrives"],
        source: source::SYSRET,
        lab: USED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, SYSRETQ);
            let regs = &mut bench.vm.state_mut().regs;
            (regs.rcx, regs.r11) = (USER, rflags::FIXED);
            Ok(arrives(&mut bench)?.0)
        },
    },
    Probe {
        id: "ring3-state",
        property: "a run that starts in ring 3, by registers alone",
        right: &["arrives"],
        source: source::RUN_API,
        lab: USED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.go_user(USER);
            Ok(arrives(&mut bench)?.0)
        },
    },
    Probe {
        id: "ring3-nmi",
        property: "an NMI raised at a RIP that was set in ring 3 comes before the instruction there",
        right: &["exact"],
        source: source::NMI,
        lab: USED,
        measure: nmi,
    },
    Probe {
        id: "ring3-syscall",
        property: "SYSCALL arrives at LSTAR at CPL 0",
        right: &["at CPL 0"],
        source: source::SYSCALL,
        lab: "completes one that stays at CPL 3",
        measure: syscall,
    },
    Probe {
        id: "ring3-int3",
        property: "int3 in ring 3",
        right: &["#BP behind it"],
        source: source::INT,
        lab: USED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(USER, INT3);
            bench.go_user(USER);
            trap(bench, 3)
        },
    },
    Probe {
        id: "ring3-step",
        property: "a step in ring 3 stops at the next instruction",
        right: &["at the next instruction"],
        source: source::DEBUG_API,
        lab: "does not step by the trap flag",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(USER, &then_nops(NOP, 8));
            bench.go_user(USER);
            let stop = step(&mut bench);
            // Stopped inside its handler or not, a #DB that the guest sees is its own.
            match stop {
                _ if bench.rip() == handler(1) + 1 => Ok("the guest gets a #DB".into()),
                Ok(stop) => Ok(past(stop, USER + 1, "the next instruction").into()),
                Err(Fail::Unexpected(_)) if bench.frame_on(FAULT_STACK).rip == USER + 9 => Ok("never".into()),
                Err(fail) => Err(fail),
            }
        },
    },
    Probe {
        id: "ring3-breakpoint",
        property: "a hardware breakpoint in ring 3 stops before its instruction",
        right: &["exact"],
        source: source::BREAKPOINT,
        lab: "stops by HLT bytes, never by a debug register",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(USER, &then_nops(NOP, 8));
            bench.go_user(USER);
            bench.vm.guest_debug(Debug::Breakpoint(USER + 2))?;
            Ok(match bench.run()? {
                Came::Exit(Exit::Debug { .. }) if bench.rip() == USER + 2 => "exact".into(),
                Came::Exit(Exit::Debug { .. }) => past(bench.rip(), USER + 2, "the breakpoint").into(),
                Came::Handler(13) => "never".into(),
                other => tell(other).into(),
            })
        },
    },
    Probe {
        id: "int3",
        property: "int3 at CPL 0",
        right: &["#BP behind it"],
        source: source::INT,
        lab: "raises #BP in its place where it is not executed",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[INT3, HLT].concat());
            trap(bench, 3)
        },
    },
    Probe {
        id: "int-n",
        property: "int n at CPL 0",
        right: &["vector 129 behind it"],
        source: source::INT,
        lab: "no guest of the lab holds one",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[INT_81, HLT].concat());
            trap(bench, 0x81)
        },
    },
    Probe {
        id: "int3-debug",
        property: "int3 at CPL 0 with KVM_GUESTDBG_USE_SW_BP exits",
        right: &["DEBUG at it"],
        source: source::DEBUG_API,
        lab: "stops by HLT bytes, never by int3",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[INT3, HLT].concat());
            bench.vm.guest_debug(Debug::Int3)?;
            Ok(match bench.run()? {
                Came::Exit(Exit::Debug { .. }) if bench.rip() == CODE => "DEBUG at it".into(),
                Came::Exit(Exit::Debug { .. }) => "DEBUG elsewhere".into(),
                other => tell(other).into(),
            })
        },
    },
];

/// A stack pointer whose bits 31:16 are not the kernel's.
const STACK_16: u64 = 0x5a5a_1000;

/// Returns to [`USER`], as 32-bit code on a 16-bit stack.
fn to_ldt(host: &Host) -> Result<(Answer, Frame), Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &[LLDT, IRETQ].concat());
    bench.push_frame(Frame { cs: LDT_CS_32, rsp: STACK_16, ss: LDT_SS_16, ..Frame::user(USER) });
    bench.vm.state_mut().regs.rax = LDTR;
    let (answer, frame) = arrives_as(&mut bench, LDT_CS_32)?;
    Ok(if answer.text != "arrives" || frame.ss == LDT_SS_16 {
        (answer, frame)
    } else {
        (Answer::with("with another SS", format!("{:#x}", frame.ss)), frame)
    })
}

/// Whether ring 3 is reached at [`USER`], where a HLT is.
fn arrives(bench: &mut Bench) -> Result<(Answer, Frame), Fail> {
    arrives_as(bench, USER_CS)
}

/// The same, in the code segment `cs`.
fn arrives_as(bench: &mut Bench, cs: u64) -> Result<(Answer, Frame), Fail> {
    let came = bench.run()?;
    // Below the frame lies the #GP's error code.
    let frame = bench.frame_on(FAULT_STACK);
    let answer = match came {
        Came::Handler(13) if frame.rip == USER && frame.cs == cs => "arrives".into(),
        Came::Handler(_) => Answer::with(tell(came), format!("the frame's RIP {:#x}, CS {:#x}", frame.rip, frame.cs)),
        _ => tell(came).into(),
    };
    Ok((answer, frame))
}

fn trap(mut bench: Bench, vector: u8) -> Result<Answer, Fail> {
    let start = bench.rip();
    let came = bench.run()?;
    let behind = start + if vector == 3 { 1 } else { 2 };
    Ok(match came {
        Came::Handler(v) if v == vector => {
            let place = if bench.frame_on(FAULT_STACK).rip == behind { "behind it" } else { "elsewhere" };
            format!("{} {place}", super::bench::vector_name(v)).into()
        }
        other => tell(other).into(),
    })
}

fn nmi(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(USER, &then_nops(NOP, 8));
    bench.go_user(USER);
    bench.vm.raise_nmi()?;
    let came = bench.run()?;
    let frame = bench.frame_on(NMI_STACK);
    Ok(match came {
        Came::Handler(2) if frame.rip == USER && frame.cs == USER_CS => "exact".into(),
        Came::Handler(2) => "late".into(),
        other => tell(other).into(),
    })
}

fn syscall(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(USER, SYSCALL);
    bench.go_user(USER);
    let came = bench.run()?;
    let state = bench.vm.state();
    Ok(match came {
        Came::Halt(SYSCALL_ENTRY) if state.regs.rcx == USER + 2 && state.sregs.cs.dpl == 0 => "at CPL 0".into(),
        Came::Handler(vector) => {
            let frame = bench.frame_on(FAULT_STACK);
            if frame.rip == SYSCALL_ENTRY {
                let error = bench.peek(state.regs.rsp);
                let name = super::bench::vector_name(vector);
                Answer::with(format!("{name} at LSTAR, still at CPL 3"), format!("error code {error:#x}"))
            } else {
                return Err(unexpected("SYSCALL", came));
            }
        }
        other => tell(other).into(),
    })
}
