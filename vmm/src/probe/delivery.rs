//! Where an NMI is delivered, and how many are kept.

use super::bench::{Bench, CODE, Came, Fail, Frame, TARGET, UNMAPPED, unexpected};
use super::code::*;
use super::spec::{Answer, Probe, source};
use crate::cpu::rflags;
use crate::kvm::Host;

pub const PROBES: &[Probe] = &[
    Probe {
        id: "nmi-at-rip",
        property: "an NMI raised at a RIP that was set comes before the instruction there",
        right: &["exact"],
        source: source::NMI,
        lab: "every delivery is checked: one that comes late ends the run with an error, never with a verdict",
        measure: |host| at_each_instruction(host, |b| Ok(b.vm.raise_nmi()?)),
    },
    Probe {
        id: "nmi-in-events",
        property: "an NMI pending in the vCPU events comes before the instruction at RIP",
        right: &["exact"],
        source: source::EVENTS_API,
        lab: "gear jump raises its NMIs so; campaigns run a sample again in another gear",
        measure: |host| {
            at_each_instruction(host, |b| {
                b.vm.state_mut().events.nmi.pending = 1;
                Ok(())
            })
        },
    },
    Probe {
        id: "nmi-at-hlt-stop",
        property: "a HLT byte stops exactly at each boundary, and an NMI raised there comes before the instruction",
        right: &["exact"],
        source: source::RUN_API,
        lab: "every stop at a boundary is one",
        measure: at_hlt_stops,
    },
    Probe {
        id: "nmi-after-iretq",
        property: "an NMI latched while masked comes at the first boundary after the iretq that unmasks",
        right: &["exact"],
        source: source::MULTIPLE_NMIS,
        lab: "keeps the latch in the VMM and raises the NMI at the boundary itself, on every host",
        measure: |host| after_iretq(host, TARGET),
    },
    Probe {
        id: "nmi-after-iretq-to-ring3",
        property: "an NMI latched while masked comes at the first boundary after an iretq to ring 3",
        right: &["exact"],
        source: source::MULTIPLE_NMIS,
        lab: "keeps the latch in the VMM, as above",
        measure: |host| after_iretq(host, super::bench::USER),
    },
    Probe {
        id: "nmi-kept-open",
        property: "three NMIs raised at once while unmasked: deliveries",
        right: &["2"],
        source: source::NMI_COUNT,
        lab: "raises one at a time; an arrival while one is latched changes nothing",
        measure: |host| {
            let bench = Bench::new(host)?;
            kept(bench)
        },
    },
    Probe {
        id: "nmi-kept-masked",
        property: "three NMIs raised at once while masked: deliveries",
        right: &["1"],
        source: source::MULTIPLE_NMIS,
        lab: "keeps one in the VMM",
        measure: |host| {
            let bench = Bench::inside_nmi(host, CODE)?;
            kept(bench)
        },
    },
    Probe {
        id: "nmi-push-fault",
        property: "an NMI whose stack is not mapped: the fault's CR2 is the address of the first push",
        right: &["#PF before the instruction, CR2 right"],
        source: source::EXCEPTIONS,
        lab: "does not rely on CR2 there: the fault itself is the verdict",
        measure: push_fault,
    },
];

/// Raises an NMI before each of a row of instructions.
fn at_each_instruction(host: &Host, raise: fn(&mut Bench) -> Result<(), Fail>) -> Result<Answer, Fail> {
    let rows: &[(&str, &[u8])] = &[
        ("nop", NOP),
        ("pushfq", PUSHFQ),
        ("popfq", POPFQ),
        ("cli", CLI),
        ("sti", STI),
        ("mov %ss", MOV_SS),
        ("mov %cr2", MOV_FROM_CR2),
        ("swapgs", SWAPGS),
        ("ret", RET),
        ("lretq", LRETQ),
        ("iretq", IRETQ),
        ("ud2", UD2),
        ("out", OUT),
        ("hlt", HLT),
    ];
    for (name, instruction) in rows {
        let mut bench = Bench::new(host)?;
        bench.put(CODE, &then_nops(instruction, 4));
        bench.push_frame(Frame::kernel(TARGET));
        bench.vm.state_mut().regs.rax = super::bench::KERNEL_SS;
        raise(&mut bench)?;
        match bench.run()? {
            Came::Handler(2) if bench.nmi_from() == CODE && bench.masked() => {}
            Came::Handler(2) if bench.nmi_from() == CODE => {
                return Ok(format!("exact, but not masked at {name}").into());
            }
            _ => return Ok(format!("late at {name}").into()),
        }
    }
    Ok("exact".into())
}

fn at_hlt_stops(host: &Host) -> Result<Answer, Fail> {
    let code = [NOP, PUSHFQ, CLI, SWAPGS, POPFQ, SWAPGS, NOP, MOV_FROM_CR2, NOP];
    let mut boundary = CODE;
    for instruction in code {
        let mut bench = Bench::new(host)?;
        bench.put(CODE, &code.concat());
        let old = bench.vm.ram().bytes()[boundary as usize];
        bench.put(boundary, HLT);
        match bench.run()? {
            Came::Halt(at) if at == boundary => {}
            other => return Err(unexpected("a run to a HLT byte", other)),
        }
        bench.put(boundary, &[old]);
        bench.vm.state_mut().regs.rip = boundary;
        bench.enter_nmi()?;
        if bench.nmi_from() != boundary {
            return Ok("late".into());
        }
        boundary += instruction.len() as u64;
    }
    Ok("exact".into())
}

/// A latched NMI and the iretq of the handler. Tried a few times: a host whose
/// delivery depends on chance is not exact.
fn after_iretq(host: &Host, to: u64) -> Result<Answer, Fail> {
    let mut latest = 0;
    for _ in 0..4 {
        let mut bench = Bench::inside_nmi(host, CODE)?;
        bench.put(to, &then_nops(&[], 3000));
        bench.put(CODE, IRETQ);
        bench.go(CODE);
        bench.push_frame(if to == TARGET { Frame::kernel(to) } else { Frame::user(to) });
        bench.vm.raise_nmi()?;
        match bench.run()? {
            Came::Handler(2) => latest = latest.max(bench.nmi_from().wrapping_sub(to)),
            // HLT in the kernel, or its #GP in ring 3: an exit, and still no NMI.
            Came::Halt(_) | Came::Handler(13) => latest = latest.max(3001),
            other => return Err(unexpected("an iretq with an NMI latched", other)),
        }
    }
    Ok(match latest {
        0 => "exact".into(),
        3001 => Answer::with("late", "not before the next exit"),
        n => Answer::with("late", format!("{n} instructions late")),
    })
}

fn kept(mut bench: Bench) -> Result<Answer, Fail> {
    bench.put(CODE, &then_nops(&[], 3000));
    for _ in 0..3 {
        bench.vm.raise_nmi()?;
    }
    let (mut deliveries, mut places) = (0, Vec::new());
    for _ in 0..10 {
        match bench.run()? {
            Came::Handler(2) => {
                deliveries += 1;
                places.push(format!("+{}", bench.nmi_from().wrapping_sub(CODE)));
            }
            Came::Halt(_) => return Ok(Answer::with(deliveries.to_string(), format!("at {}", places.join(", ")))),
            other => return Err(unexpected("three NMIs", other)),
        }
    }
    Ok("without end".into())
}

fn push_fault(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.set_nmi_stack(UNMAPPED + 0x1000);
    bench.vm.raise_nmi()?;
    match bench.run()? {
        Came::Handler(14) => {}
        other => return Ok(super::bench::tell(other).into()),
    }
    let (state, frame) = (bench.vm.state(), bench.frame_on(super::bench::FAULT_STACK));
    let place = if frame.rip == CODE { "before the instruction" } else { "elsewhere" };
    let cr2 = state.sregs.cr2;
    let right = (UNMAPPED..UNMAPPED + 0x1000).contains(&cr2);
    let text = format!("#PF {place}, CR2 {}", if right { "right" } else { "wrong" });
    let error = bench.peek(state.regs.rsp);
    Ok(Answer::with(
        text,
        format!("CR2 {cr2:#x}, error code {error:#x}, NMIs {}", super::masking::says(bench.masked())),
    ))
}

/// TF and RF of a frame, in words.
pub fn traces(flags: u64) -> &'static str {
    match (flags & rflags::TF != 0, flags & rflags::RF != 0) {
        (false, false) => "neither TF nor RF",
        (true, false) => "TF",
        (false, true) => "RF",
        (true, true) => "TF and RF",
    }
}
