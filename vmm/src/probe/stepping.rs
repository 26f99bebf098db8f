//! KVM_GUESTDBG_SINGLESTEP and hardware breakpoints: where they stop, and what the
//! guest sees of them.

use super::bench::{self, Bench, CODE, Came, FAULT_STACK, Fail, Frame, KERNEL_SS, NMI_STACK, TARGET, tell, unexpected};
use super::code::*;
use super::spec::{Answer, Probe, source};
use crate::cpu::{SHADOW_MOV_SS, SHADOW_STI, rflags};
use crate::kvm::{Debug, Exit, Host};

const UNUSED: &str = "steps by HLT bytes at the instruction's possible successors, never by the trap flag";
const NO_BREAKPOINTS: &str = "stops by HLT bytes, never by a debug register";

pub const PROBES: &[Probe] = &[
    Probe {
        id: "step-nop",
        property: "eight steps over NOPs stop once at each",
        right: &["each once"],
        source: source::DEBUG_API,
        lab: UNUSED,
        measure: |host| eight(Bench::new(host)?),
    },
    Probe {
        id: "step-first-touch",
        property: "eight steps over NOPs on a page that the guest touches for the first time stop once at each",
        right: &["each once"],
        source: source::DEBUG_API,
        lab: UNUSED,
        measure: |host| eight(Bench::untouched(host)?),
    },
    Probe {
        id: "step-iretq",
        property: "a step over iretq stops at the target",
        right: &["at the target"],
        source: source::TRAP_FLAG,
        lab: UNUSED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, IRETQ);
            bench.put(TARGET, &then_nops(&[], 8));
            bench.push_frame(Frame::kernel(TARGET));
            Ok(past(step(&mut bench)?, TARGET, "the target").into())
        },
    },
    Probe {
        id: "step-swapgs",
        property: "a step over swapgs stops behind it",
        right: &["at the next instruction"],
        source: source::TRAP_FLAG,
        lab: UNUSED,
        measure: |host| over(host, SWAPGS),
    },
    Probe {
        id: "step-popfq",
        property: "a step over a popfq that clears TF stops behind it",
        right: &["at the next instruction"],
        source: source::TRAP_FLAG,
        lab: UNUSED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &then_nops(POPFQ, 8));
            bench.poke(bench.vm.state().regs.rsp, rflags::FIXED);
            Ok(past(step(&mut bench)?, CODE + 1, "the next instruction").into())
        },
    },
    Probe {
        id: "step-sti",
        property: "a step over STI stops behind it and reports the shadow",
        right: &["at the next instruction, in its shadow"],
        source: source::TRAP_FLAG,
        lab: "sets the shadow itself where it stops behind an STI",
        measure: |host| shadow(host, STI, SHADOW_STI),
    },
    Probe {
        id: "step-mov-ss",
        property: "a step over MOV SS stops behind the instruction that follows (the shadow holds #DB back)",
        right: &["1 instruction past the next instruction"],
        source: source::SHADOW,
        lab: "sets the shadow itself where it stops behind a load of SS",
        measure: |host| shadow(host, MOV_SS, SHADOW_MOV_SS),
    },
    Probe {
        id: "step-nmi-entry",
        property: "a step with an NMI pending stops at the NMI handler's first instruction",
        right: &["at the handler's first instruction"],
        source: source::DEBUG_API,
        lab: UNUSED,
        measure: |host| entry(host, 2),
    },
    Probe {
        id: "step-fault-entry",
        property: "a step over an instruction that faults stops at the handler's first instruction",
        right: &["at the handler's first instruction"],
        source: source::DEBUG_API,
        lab: UNUSED,
        measure: |host| entry(host, 6),
    },
    Probe {
        id: "step-hlt",
        property: "the exit of a step over HLT",
        right: &["HLT", "DEBUG"],
        source: source::DEBUG_API,
        lab: UNUSED,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[HLT, NOP, NOP].concat());
            let mut came = step_once(&mut bench)?;
            for _ in 0..PATIENCE {
                if matches!(came, Came::Exit(Exit::Debug { .. })) && bench.rip() == CODE {
                    came = step_once(&mut bench)?;
                }
            }
            Ok(match came {
                Came::Halt(_) => "HLT".into(),
                Came::Exit(Exit::Debug { .. }) => "DEBUG".into(),
                other => tell(other).into(),
            })
        },
    },
    Probe {
        id: "step-tf-in-pushfq",
        property: "TF in what a stepped pushfq pushes",
        right: &["TF clear"],
        source: source::DEBUG_API,
        lab: "no guest of the lab is stepped by the trap flag",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &then_nops(PUSHFQ, 8));
            step(&mut bench)?;
            Ok(trap_flag(bench.peek(bench.vm.state().regs.rsp)).into())
        },
    },
    Probe {
        id: "step-tf-in-nmi-frame",
        property: "TF in the frame of an NMI taken while stepping",
        right: &["TF clear"],
        source: source::DEBUG_API,
        lab: "no guest of the lab is stepped by the trap flag",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.vm.guest_debug(Debug::Step)?;
            bench.vm.raise_nmi()?;
            bench.run()?;
            for _ in 0..PATIENCE {
                if bench.frame_on(NMI_STACK).rip != CODE {
                    step_once(&mut bench)?;
                }
            }
            let frame = bench.frame_on(NMI_STACK);
            if frame.rip != CODE {
                return Err(Fail::Unexpected(format!("the NMI's frame leads to {:#x}", frame.rip)));
            }
            Ok(trap_flag(frame.rflags).into())
        },
    },
    Probe {
        id: "breakpoint",
        property: "a hardware breakpoint at CPL 0 stops before its instruction",
        right: &["exact"],
        source: source::BREAKPOINT,
        lab: NO_BREAKPOINTS,
        measure: |host| breakpoint(host, NOP),
    },
    Probe {
        id: "breakpoint-mov-ss",
        property: "a hardware breakpoint behind MOV SS (the shadow suppresses it)",
        right: &["never"],
        source: source::SHADOW,
        lab: NO_BREAKPOINTS,
        measure: |host| breakpoint(host, MOV_SS),
    },
    Probe {
        id: "breakpoint-resume",
        property: "going on at an armed breakpoint with RF set",
        right: &["goes on"],
        source: source::BREAKPOINT,
        lab: NO_BREAKPOINTS,
        measure: resume,
    },
];

/// How often a host may stop at the instruction itself before it is given up.
const PATIENCE: usize = 20;

/// One step. Returns where it stopped. Stops at the instruction itself are what
/// `step-nop` tells of; here they are passed over.
pub fn step(bench: &mut Bench) -> Result<u64, Fail> {
    let from = bench.rip();
    for _ in 0..PATIENCE {
        match step_once(bench)? {
            Came::Exit(Exit::Debug { .. }) if bench.rip() == from => {}
            Came::Exit(Exit::Debug { .. }) => return Ok(bench.rip()),
            Came::Halt(at) => return Ok(at),
            other => return Err(unexpected("a step", other)),
        }
    }
    Ok(from)
}

fn step_once(bench: &mut Bench) -> Result<Came, Fail> {
    bench.vm.guest_debug(Debug::Step)?;
    bench.run()
}

/// `rip` relative to where the step should stop, all behind that being NOPs up to a
/// HLT eight bytes on.
pub fn past(rip: u64, right: u64, name: &str) -> String {
    match rip.wrapping_sub(right) {
        0 => format!("at {name}"),
        1 => format!("1 instruction past {name}"),
        n @ 2..8 => format!("{n} instructions past {name}"),
        8 => "never".into(),
        _ => format!("at {rip:#x}"),
    }
}

fn trap_flag(flags: u64) -> &'static str {
    if flags & rflags::TF == 0 { "TF clear" } else { "TF set" }
}

fn eight(mut bench: Bench) -> Result<Answer, Fail> {
    let mut rips = Vec::new();
    let mut dr6 = 0;
    while bench.rip() < CODE + 8 && rips.len() < 8 + PATIENCE {
        match step_once(&mut bench)? {
            Came::Exit(Exit::Debug { dr6: told, .. }) => {
                if rips.last().unwrap_or(&CODE) == &bench.rip() {
                    dr6 = told;
                }
                rips.push(bench.rip());
            }
            other => return Err(unexpected("a step", other)),
        }
    }
    let places: Vec<String> = rips.iter().map(|rip| format!("+{}", rip.wrapping_sub(CODE))).collect();
    let places = places.join(" ");
    rips.dedup();
    let each = rips.iter().copied().filter(|rip| *rip != CODE).eq(CODE + 1..=CODE + 8);
    Ok(match (each, dr6) {
        (true, 0) => "each once".into(),
        (true, dr6) => Answer::with("some more than once", format!("{places}; DR6 {dr6:#x}")),
        (false, _) => Answer::with("some not at all", places),
    })
}

fn over(host: &Host, instruction: &[u8]) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(instruction, 8));
    Ok(past(step(&mut bench)?, CODE + instruction.len() as u64, "the next instruction").into())
}

fn shadow(host: &Host, instruction: &[u8], shadow: u8) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(instruction, 8));
    bench.vm.state_mut().regs.rax = KERNEL_SS;
    let stop = step(&mut bench)?;
    let place = past(stop, CODE + instruction.len() as u64, "the next instruction");
    let told = bench.vm.state().events.interrupt.shadow;
    Ok(if told & shadow != 0 { format!("{place}, in its shadow").into() } else { place.into() })
}

fn entry(host: &Host, vector: u8) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    let to = bench::handler(vector);
    let stack = if vector == 2 { NMI_STACK } else { FAULT_STACK };
    // Where the handler ends, nothing loops.
    bench.put(to, if vector == 2 { &[0x90, 0x90, 0x90, 0x90, 0x48, 0xcf] } else { &[0x90, 0x90, 0x90, 0x90, 0xf4] });
    bench.put(CODE, &then_nops(if vector == 2 { NOP } else { UD2 }, 8));
    bench.vm.guest_debug(Debug::Step)?;
    if vector == 2 {
        bench.vm.raise_nmi()?;
    }
    let mut came = bench.run()?;
    let entered = |b: &Bench| b.frame_on(stack).rip == CODE;
    for _ in 0..PATIENCE {
        if bench.rip() == CODE && !entered(&bench) {
            came = step_once(&mut bench)?;
        }
    }
    let rip = bench.rip();
    Ok(match came {
        Came::Exit(Exit::Debug { .. }) if rip == to => "at the handler's first instruction".into(),
        Came::Exit(Exit::Debug { .. }) if rip == to + 1 => "after the handler's first instruction".into(),
        Came::Exit(Exit::Debug { .. }) if (CODE..CODE + 2).contains(&rip) => "after the handler's iretq".into(),
        Came::Halt(at) if at == to + 4 => "not in the handler".into(),
        Came::Halt(at) if at == CODE + 9 => "never".into(),
        other => Answer::with("elsewhere", format!("{}, RIP {rip:#x}", tell(other))),
    })
}

/// A breakpoint behind `instruction`.
fn breakpoint(host: &Host, instruction: &[u8]) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(instruction, 8));
    bench.vm.state_mut().regs.rax = KERNEL_SS;
    let at = CODE + instruction.len() as u64;
    bench.vm.guest_debug(Debug::Breakpoint(at))?;
    Ok(match bench.run()? {
        Came::Exit(Exit::Debug { .. }) if bench.rip() == at => "exact".into(),
        Came::Exit(Exit::Debug { .. }) => past(bench.rip(), at, "the breakpoint").into(),
        Came::Halt(_) => "never".into(),
        other => tell(other).into(),
    })
}

fn resume(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.vm.guest_debug(Debug::Breakpoint(CODE + 1))?;
    match bench.run()? {
        Came::Exit(Exit::Debug { .. }) => {}
        Came::Halt(_) => return Ok("breakpoints never stop".into()),
        other => return Err(unexpected("a breakpoint", other)),
    }
    bench.vm.state_mut().regs.rflags |= rflags::RF;
    Ok(match bench.run()? {
        Came::Exit(Exit::Debug { .. }) if bench.rip() == CODE + 1 => "stops there again".into(),
        Came::Halt(_) => "goes on".into(),
        other => tell(other).into(),
    })
}
