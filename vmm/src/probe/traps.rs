//! A trap flag that the guest itself has set: where its #DB comes, and whether the lab's
//! stops and NMIs are exact under it.

use super::bench::{
    self, Bench, CODE, Came, FAULT_STACK, Fail, Frame, KERNEL_SS, NMI_STACK, STACK, TARGET, unexpected,
};
use super::code::*;
use super::spec::{Answer, Probe, source};
use crate::cpu::rflags;
use crate::kvm::{Exit, Host};

const TAKEN: &str = "takes the host's #DB as it comes; scenarios with TF are host-limit where it comes elsewhere";
const DB: u8 = 1;

pub const PROBES: &[Probe] = &[
    Probe {
        id: "tf-popfq",
        property: "popfq sets TF: #DB behind the instruction after it",
        right: &["1 instruction behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &then_nops(POPFQ, 8));
            bench.poke(bench.vm.state().regs.rsp, TF);
            behind(&mut bench, CODE + 1)
        },
    },
    Probe {
        id: "tf-popfq-clear",
        property: "popfq clears TF: one more #DB, behind it",
        right: &["right behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| {
            let mut bench = under(host, POPFQ)?;
            bench.poke(bench.vm.state().regs.rsp, rflags::FIXED);
            behind(&mut bench, CODE + 1)
        },
    },
    Probe {
        id: "tf-iretq",
        property: "iretq sets TF: #DB behind its target's first instruction",
        right: &["1 instruction behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, IRETQ);
            bench.put(TARGET, &then_nops(&[], 8));
            bench.push_frame(Frame { rflags: TF, ..Frame::kernel(TARGET) });
            behind(&mut bench, TARGET)
        },
    },
    Probe {
        id: "tf-ret",
        property: "#DB behind a near return under TF",
        right: &["right behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| {
            let mut bench = under(host, RET)?;
            bench.put(TARGET, &then_nops(&[], 8));
            bench.poke(bench.vm.state().regs.rsp, TARGET);
            behind(&mut bench, TARGET)
        },
    },
    Probe {
        id: "tf-mov-ss",
        property: "MOV SS under TF: its shadow holds #DB back, which comes behind the next instruction",
        right: &["1 instruction behind it"],
        source: source::SHADOW,
        lab: TAKEN,
        measure: |host| {
            let mut bench = under(host, MOV_SS)?;
            bench.vm.state_mut().regs.rax = KERNEL_SS;
            behind(&mut bench, CODE + 2)
        },
    },
    Probe {
        id: "tf-sti",
        property: "STI under TF: its shadow does not hold #DB back",
        right: &["right behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| behind(&mut under(host, STI)?, CODE + 1),
    },
    Probe {
        id: "tf-swapgs",
        property: "#DB behind swapgs under TF",
        right: &["right behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| behind(&mut under(host, SWAPGS)?, CODE + 3),
    },
    Probe {
        id: "tf-out",
        property: "#DB behind an OUT under TF",
        right: &["right behind it"],
        source: source::TRAP_FLAG,
        lab: "no hypercall of the lab's guest is made under TF",
        measure: |host| {
            let mut bench = under(host, OUT)?;
            match bench.run()? {
                Came::Exit(Exit::Out { .. }) => behind(&mut bench, CODE + 2),
                other => Err(unexpected("an OUT under TF", other)),
            }
        },
    },
    Probe {
        id: "tf-fault",
        property: "#UD under TF: its frame has TF, its handler does not, and no #DB comes",
        right: &["#UD's handler, TF in the frame only"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| Ok(entry(&mut under(host, UD2)?, 6, FAULT_STACK)?.into()),
    },
    Probe {
        id: "tf-nmi",
        property: "an NMI raised before an instruction under TF: TF in its frame, not in its handler; #DB behind the instruction",
        right: &["the NMI handler, TF in the frame only; #DB right behind it"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: |host| {
            let mut bench = under(host, NOP)?;
            bench.vm.raise_nmi()?;
            let first = entry(&mut bench, 2, NMI_STACK)?;
            Ok(format!("{first}; #DB {}", behind(&mut bench, CODE + 1)?.text).into())
        },
    },
    Probe {
        id: "tf-hlt-stop",
        property: "a HLT byte at a boundary under TF stops there, and the HLT's own trap can be taken back",
        right: &["exact; #DB behind the instruction"],
        source: source::RUN_API,
        lab: "drops the #DB that the HLT byte's own execution leaves in the vCPU events",
        measure: stop,
    },
    Probe {
        id: "tf-stretch",
        property: "100 NOPs under TF: #DBs whose handler returns by iretq",
        right: &["100"],
        source: source::TRAP_FLAG,
        lab: TAKEN,
        measure: stretch,
    },
    Probe {
        id: "guest-breakpoint",
        property: "an instruction breakpoint that the guest sets in DR0 and DR7: #DB at it",
        right: &["right before it"],
        source: source::BREAKPOINT,
        lab: "no guest of the lab uses debug registers",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &then_nops(&[MOV_TO_DR0, MOV_TO_DR7].concat(), 8));
            let regs = &mut bench.vm.state_mut().regs;
            (regs.rax, regs.rbx) = (CODE + 8, DR7_EXECUTE_0);
            let answer = behind(&mut bench, CODE + 8)?;
            Ok(if answer.text == "right behind it" { "right before it".into() } else { answer })
        },
    },
];

/// Breakpoint 0, on execution, one byte; bit 10 is always set (SDM vol. 3, 17.2.4).
const DR7_EXECUTE_0: u64 = 0x402;

const TF: u64 = rflags::FIXED | rflags::TF;

/// About to execute `instruction` with TF set.
fn under(host: &Host, instruction: &[u8]) -> Result<Bench, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(instruction, 8));
    bench.vm.state_mut().regs.rflags = TF;
    Ok(bench)
}

/// Runs to the #DB, and says how far behind `at` it came.
fn behind(bench: &mut Bench, at: u64) -> Result<Answer, Fail> {
    let came = bench.run()?;
    Ok(match came {
        Came::Handler(DB) => match bench.frame_on(FAULT_STACK).rip.wrapping_sub(at) {
            0 => "right behind it".into(),
            1 => "1 instruction behind it".into(),
            n @ 2..9 => format!("{n} instructions behind it").into(),
            _ => Answer::with("elsewhere", format!("frame RIP {:#x}", bench.frame_on(FAULT_STACK).rip)),
        },
        Came::Halt(_) => "never".into(),
        other => bench::tell(other).into(),
    })
}

/// Runs to the handler of `vector`, and says where TF is set.
fn entry(bench: &mut Bench, vector: u8, stack: u64) -> Result<String, Fail> {
    let came = bench.run()?;
    let frame = bench.frame_on(stack);
    if came != Came::Handler(vector) || frame.rip != CODE {
        return Ok(format!("{}, frame RIP {:#x}", bench::tell(came), frame.rip));
    }
    let tf = match (frame.rflags & rflags::TF != 0, bench.vm.state().regs.rflags & rflags::TF != 0) {
        (true, false) => "TF in the frame only",
        (true, true) => "TF in both",
        (false, true) => "TF in the handler only",
        (false, false) => "TF in neither",
    };
    Ok(format!("{}, {tf}", bench::tell(came)))
}

/// The lab's stop, with the boundary reached in each way: behind a popfq that sets TF,
/// and at an iretq's target.
fn stop(host: &Host) -> Result<Answer, Fail> {
    for instruction in [POPFQ, IRETQ] {
        let mut bench = Bench::new(host)?;
        bench.put(CODE, &then_nops(instruction, 8));
        let at = if instruction == POPFQ {
            bench.poke(bench.vm.state().regs.rsp, TF);
            CODE + 1
        } else {
            bench.put(TARGET, &then_nops(&[], 8));
            bench.push_frame(Frame { rflags: TF, ..Frame::kernel(TARGET) });
            TARGET
        };
        bench.put(at, HLT);
        match bench.run()? {
            Came::Halt(halted) if halted == at => {}
            other => return Ok(bench::tell(other).into()),
        }
        let left = bench.vm.state().events.exception;
        let flags = bench.vm.state().regs.rflags;
        bench.put(at, NOP);
        let state = bench.vm.state_mut();
        state.events.exception = Default::default();
        state.regs.rip = at;
        let answer = behind(&mut bench, at)?;
        if answer.text != "1 instruction behind it" || flags & rflags::TF == 0 {
            let detail = format!("RFLAGS {flags:#x} at the stop, vector {} injected: {}", left.nr, left.injected);
            return Ok(Answer::with(format!("stops; #DB {}", answer.text), detail));
        }
    }
    Ok("exact; #DB behind the instruction".into())
}

/// Counts on the stack of the faults, in a handler of three instructions.
fn stretch(host: &Host) -> Result<Answer, Fail> {
    const NOPS: usize = 100;
    let mut bench = under(host, &[])?;
    bench.put(CODE, &then_nops(&[], NOPS));
    bench.vm.state_mut().regs.rflags = TF;
    bench.vm.state_mut().regs.rdi = STACK - 8;
    bench.poke(STACK - 8, 0);
    // incq (%rdi); iretq
    bench.put(bench::handler(DB), &[&[0x48, 0xff, 0x07], IRETQ].concat());
    match bench.run()? {
        Came::Halt(at) if at == CODE + NOPS as u64 => {}
        other => return Ok(bench::tell(other).into()),
    }
    // The HLT at the end has a trap of its own, which comes behind it.
    Ok(bench.peek(STACK - 8).to_string().into())
}
