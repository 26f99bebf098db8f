//! What masks NMIs and what unmasks them.

use super::bench::{Bench, CODE, Came, FAULT_STACK, Fail, Frame, KERNEL_CS, TARGET, USER, unexpected};
use super::code::*;
use super::spec::{Answer, Probe, source};
use crate::cpu::{SHADOW_MOV_SS, SHADOW_STI, rflags};
use crate::kvm::Host;

pub const PROBES: &[Probe] = &[
    Probe {
        id: "unmask-iretq",
        property: "NMIs after an iretq from the handler",
        right: &["unmasked"],
        source: source::MULTIPLE_NMIS,
        lab: "takes the mask from the vCPU events after every run",
        measure: |host| after(host, &[IRETQ, NOP].concat(), 0, |b| b.push_frame(Frame::kernel(TARGET))),
    },
    Probe {
        id: "unmask-popfq",
        property: "NMIs after popfq in the handler",
        right: &["masked"],
        source: source::MULTIPLE_NMIS,
        lab: "takes the mask from the vCPU events after every run",
        measure: |host| after(host, &[PUSHFQ, POPFQ, NOP, HLT].concat(), 3, |_| {}),
    },
    Probe {
        id: "unmask-ret",
        property: "NMIs after a near ret in the handler",
        right: &["masked"],
        source: source::MULTIPLE_NMIS,
        lab: "takes the mask from the vCPU events after every run",
        measure: |host| after(host, RET, 0, |b| b.push_frame(Frame::kernel(TARGET))),
    },
    Probe {
        id: "unmask-lretq",
        property: "NMIs after a far ret in the handler",
        right: &["masked"],
        source: source::MULTIPLE_NMIS,
        lab: "takes the mask from the vCPU events after every run",
        measure: |host| after(host, LRETQ, 0, |b| b.push_frame(Frame { cs: KERNEL_CS, ..Frame::kernel(TARGET) })),
    },
    Probe {
        id: "unmask-nested-iretq",
        property: "NMIs after an exception inside the handler returned by iretq",
        right: &["unmasked"],
        source: source::MULTIPLE_NMIS,
        lab: "this is what the entry schemes are about",
        measure: nested,
    },
    Probe {
        id: "unmask-sysretq",
        property: "NMIs after a sysretq from the handler",
        right: &["masked"],
        source: source::MULTIPLE_NMIS,
        lab: "takes the mask from the vCPU events after every run",
        measure: sysret,
    },
    Probe {
        id: "mask-from-outside",
        property: "masked set in the vCPU events holds NMIs, and the next iretq unmasks",
        right: &["held, then unmasked"],
        source: source::EVENTS_API,
        lab: "gear jump and the explorer put checkpoints with masked set back",
        measure: mask_outside,
    },
    Probe {
        id: "unmask-from-outside",
        property: "masked cleared in the vCPU events inside a handler: a latched NMI comes at that boundary",
        right: &["exact"],
        source: source::EVENTS_API,
        lab: "carries out `unmask@` so, with the latch kept in the VMM",
        measure: unmask_outside,
    },
    Probe {
        id: "inject-masked",
        property: "injected set in the vCPU events delivers although masked",
        right: &["delivered"],
        source: source::EVENTS_API,
        lab: "does not use it",
        measure: inject_masked,
    },
    Probe {
        id: "shadow-mov-ss",
        property: "an NMI raised in a MOV SS shadow (set in the vCPU events) comes after one instruction",
        right: &["after 1"],
        source: source::SHADOW,
        lab: "holds the NMI itself and steps out of the shadow first",
        measure: |host| shadow(host, SHADOW_MOV_SS),
    },
    Probe {
        id: "shadow-sti",
        property: "an NMI raised in an STI shadow (set in the vCPU events) comes at once or after one instruction",
        right: &["after 1", "after 0"],
        source: source::STI,
        lab: "holds the NMI itself and steps out of the shadow first",
        measure: |host| shadow(host, SHADOW_STI),
    },
];

/// `masked` in words.
pub fn says(masked: bool) -> &'static str {
    if masked { "masked" } else { "unmasked" }
}

/// Runs `code` inside an NMI handler to a HLT at `code` + `end`, or at the target
/// where `end` is 0.
fn after(host: &Host, code: &[u8], end: u64, prepare: fn(&mut Bench)) -> Result<Answer, Fail> {
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, code);
    bench.put(TARGET, HLT);
    bench.go(CODE);
    prepare(&mut bench);
    let end = if end == 0 { TARGET } else { CODE + end };
    match bench.run()? {
        Came::Halt(at) if at == end => Ok(says(bench.masked()).into()),
        other => Err(unexpected("the instruction", other)),
    }
}

fn nested(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, &[UD2, HLT].concat());
    bench.go(CODE);
    match bench.run()? {
        Came::Handler(6) if bench.masked() => {}
        Came::Handler(6) => return Ok("unmasked by the exception already".into()),
        other => return Err(unexpected("ud2", other)),
    }
    bench.poke(FAULT_STACK - 40, CODE + 2);
    match bench.run()? {
        Came::Halt(at) if at == CODE + 2 => Ok(says(bench.masked()).into()),
        other => Err(unexpected("iretq", other)),
    }
}

fn sysret(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, SYSRETQ);
    bench.go(CODE);
    let regs = &mut bench.vm.state_mut().regs;
    (regs.rcx, regs.r11) = (USER, rflags::FIXED);
    match bench.run()? {
        Came::Handler(13) => Ok(says(bench.masked()).into()),
        other => Err(unexpected("sysretq to a HLT in ring 3", other)),
    }
}

fn mask_outside(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &[NOP, NOP, NOP, HLT].concat());
    bench.vm.state_mut().events.nmi.masked = 1;
    bench.vm.raise_nmi()?;
    match bench.run()? {
        Came::Halt(_) if bench.masked() => {}
        Came::Halt(_) => return Ok("held, but not masked".into()),
        Came::Handler(2) => return Ok("not held".into()),
        other => return Err(unexpected("NOPs", other)),
    }
    let mut bench = Bench::new(host)?;
    bench.put(CODE, IRETQ);
    bench.push_frame(Frame::kernel(TARGET));
    bench.vm.state_mut().events.nmi.masked = 1;
    match bench.run()? {
        Came::Halt(TARGET) => Ok(format!("held, then {}", says(bench.masked())).into()),
        other => Err(unexpected("iretq", other)),
    }
}

fn unmask_outside(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, &[NOP, NOP, HLT, NOP, NOP, HLT].concat());
    bench.go(CODE);
    bench.vm.raise_nmi()?;
    match bench.run()? {
        Came::Halt(_) => {}
        other => return Err(unexpected("NOPs with NMIs masked", other)),
    }
    bench.vm.state_mut().events.nmi.masked = 0;
    let boundary = bench.rip();
    match bench.run()? {
        Came::Handler(2) if bench.nmi_from() == boundary => Ok("exact".into()),
        Came::Handler(2) | Came::Halt(_) => Ok("late".into()),
        other => Err(unexpected("unmasking", other)),
    }
}

fn inject_masked(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    let nmi = &mut bench.vm.state_mut().events.nmi;
    (nmi.masked, nmi.injected) = (1, 1);
    match bench.run()? {
        Came::Handler(2) if bench.nmi_from() == CODE => Ok("delivered".into()),
        Came::Handler(2) => Ok("late".into()),
        Came::Halt(_) => Ok("held".into()),
        other => Err(unexpected("an injected NMI", other)),
    }
}

/// Tried a few times: a host whose delivery depends on chance is late.
fn shadow(host: &Host, shadow: u8) -> Result<Answer, Fail> {
    const NOPS: u64 = 3000;
    let mut latest = 0;
    for _ in 0..4 {
        let mut bench = Bench::new(host)?;
        bench.put(CODE, &then_nops(&[], NOPS as usize));
        let state = bench.vm.state_mut();
        state.regs.rflags |= rflags::IF; // without it, an STI shadow is no state of a CPU
        state.events.interrupt.shadow = shadow;
        bench.vm.raise_nmi()?;
        latest = latest.max(match bench.run()? {
            Came::Handler(2) => bench.nmi_from().wrapping_sub(CODE),
            Came::Halt(at) if at == CODE + NOPS => NOPS + 1,
            other => return Err(unexpected("an NMI in a shadow", other)),
        });
    }
    Ok(match latest {
        n @ 0..=3 => format!("after {n}").into(),
        n if n > NOPS => Answer::with("late", "not before the next exit"),
        n => Answer::with("late", format!("after {n} instructions")),
    })
}
