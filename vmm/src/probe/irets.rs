//! Each way in which an iretq can fault: the exception, where it is raised, and
//! whether NMIs are masked in its handler.

use super::bench::{
    self, Bench, CODE, CODE_NOT_PRESENT, Came, DATA_NOT_PRESENT, FAULT_STACK, Fail, Frame, KERNEL_CS, KERNEL_SS,
    NON_CANONICAL, TARGET, UNMAPPED, USER, vector_name,
};
use super::code::*;
use super::masking::says;
use super::spec::{Answer, Probe, source};
use crate::cpu::rflags;
use crate::kvm::Host;

const KNOB: &str = "the exception is the CPU's; the mask afterwards is set by the knob faulting_iret_unblocks";
const LATCH: &str = "keeps the latch in the VMM and raises the NMI itself, so KVM never has one latched at an iretq";

pub const PROBES: &[Probe] = &[
    Probe {
        id: "iretq-cs-null",
        property: "iretq with CS = 0 inside an NMI handler",
        right: &["#GP(0) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame { cs: 0, ..Frame::kernel(TARGET) })),
    },
    Probe {
        id: "iretq-cs-data",
        property: "iretq with a data selector in CS",
        right: &["#GP(0x10) at the iretq, unmasked"],
        source: source::IRET,
        lab: "no scheme returns so; a guest that does is judged by this CPU's answer",
        measure: |host| faulting(host, |b| b.push_frame(Frame { cs: KERNEL_SS, ..Frame::kernel(TARGET) })),
    },
    Probe {
        id: "iretq-cs-not-present",
        property: "iretq with CS not present",
        right: &["#NP(0x40) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame { cs: CODE_NOT_PRESENT, ..Frame::kernel(TARGET) })),
    },
    Probe {
        id: "iretq-cs-rpl",
        property: "iretq to CPL 3 with a kernel code segment in CS",
        right: &["#GP(0x8) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame { cs: KERNEL_CS | 3, ..Frame::user(USER) })),
    },
    Probe {
        id: "iretq-rip-non-canonical",
        property: "iretq to a non-canonical RIP",
        right: &["#GP(0) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame::kernel(NON_CANONICAL))),
    },
    Probe {
        id: "iretq-ss-null",
        property: "iretq to CPL 3 with SS = 0",
        right: &["#GP(0) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame { ss: 0, ..Frame::user(USER) })),
    },
    Probe {
        id: "iretq-ss-code",
        property: "iretq with a code selector in SS",
        right: &["#GP(0x8) at the iretq, unmasked"],
        source: source::IRET,
        lab: "no scheme returns so; a guest that does is judged by this CPU's answer",
        measure: |host| faulting(host, |b| b.push_frame(Frame { ss: KERNEL_CS, ..Frame::kernel(TARGET) })),
    },
    Probe {
        id: "iretq-ss-not-present",
        property: "iretq to CPL 3 with SS not present",
        right: &["#SS(0x48) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.push_frame(Frame { ss: DATA_NOT_PRESENT, ..Frame::user(USER) })),
    },
    Probe {
        id: "iretq-stack-unmapped",
        property: "iretq with RSP on a page that is not present",
        right: &["#PF(0) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.vm.state_mut().regs.rsp = UNMAPPED + 0x800),
    },
    Probe {
        id: "iretq-stack-non-canonical",
        property: "iretq with a non-canonical RSP",
        right: &["#SS(0) at the iretq, unmasked"],
        source: source::IRET,
        lab: KNOB,
        measure: |host| faulting(host, |b| b.vm.state_mut().regs.rsp = NON_CANONICAL),
    },
    Probe {
        id: "nmi-at-iretq-gp",
        property: "a latched NMI and an iretq that raises #GP: the NMI comes at the handler's first instruction",
        right: &["exact"],
        source: source::MULTIPLE_NMIS,
        lab: LATCH,
        measure: |host| Ok(latched(host, 13, 0)?.0),
    },
    Probe {
        id: "nmi-at-iretq-gp-tf",
        property: "TF in that #GP's frame",
        right: &["TF clear"],
        source: source::TRAP_FLAG,
        lab: LATCH,
        measure: |host| Ok(latched(host, 13, 0)?.1),
    },
    Probe {
        id: "nmi-at-iretq-np",
        property: "a latched NMI and an iretq that raises #NP: the NMI comes at the handler's first instruction",
        right: &["exact"],
        source: source::MULTIPLE_NMIS,
        lab: LATCH,
        measure: |host| Ok(latched(host, 11, CODE_NOT_PRESENT)?.0),
    },
    Probe {
        id: "nmi-at-iretq-np-tf",
        property: "TF in that #NP's frame",
        right: &["TF clear"],
        source: source::TRAP_FLAG,
        lab: LATCH,
        measure: |host| Ok(latched(host, 11, CODE_NOT_PRESENT)?.1),
    },
];

/// Lets an iretq fault inside an NMI handler.
fn faulting(host: &Host, prepare: fn(&mut Bench)) -> Result<Answer, Fail> {
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, IRETQ);
    bench.go(CODE);
    prepare(&mut bench);
    let vector = match bench.run()? {
        Came::Handler(vector) => vector,
        Came::Halt(TARGET) => return Ok("no fault".into()),
        other => return Ok(bench::tell(other).into()),
    };
    let state = bench.vm.state();
    let has_code = matches!(vector, 8 | 10..=14 | 17);
    let error = if has_code { format!("({})", hex(bench.peek(state.regs.rsp))) } else { String::new() };
    let frame = bench.frame_on(FAULT_STACK);
    let place = match frame.rip {
        CODE => "at the iretq".into(),
        TARGET | NON_CANONICAL | USER => "at the target".into(),
        elsewhere => format!("at {elsewhere:#x}"),
    };
    Ok(Answer::with(
        format!("{}{error} {place}, {}", vector_name(vector), says(bench.masked())),
        format!("frame RFLAGS {:#x}, CR2 {:#x}", frame.rflags, state.sregs.cr2),
    ))
}

fn hex(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}

/// Lets an iretq with a bad CS fault while an NMI is latched: when the NMI comes, and
/// what the fault's frame holds.
fn latched(host: &Host, vector: u8, cs: u64) -> Result<(Answer, Answer), Fail> {
    const NOPS: usize = 3000;
    let mut bench = Bench::inside_nmi(host, CODE)?;
    bench.put(CODE, IRETQ);
    bench.put(TARGET, &then_nops(&[], NOPS));
    bench.set_handler(vector, TARGET);
    bench.go(CODE);
    bench.push_frame(Frame { cs, ..Frame::kernel(TARGET + 0x1000) });
    bench.vm.raise_nmi()?;
    let when = match bench.run()? {
        Came::Handler(2) if bench.nmi_from() == TARGET => "exact".into(),
        Came::Handler(2) => {
            Answer::with("late", format!("{} instructions late", bench.nmi_from().wrapping_sub(TARGET)))
        }
        Came::Halt(at) if at == TARGET + NOPS as u64 => {
            Answer::with("late", format!("not before the next exit, NMIs {} there", says(bench.masked())))
        }
        other => return Err(bench::unexpected("an iretq with a bad CS", other)),
    };
    let frame = bench.frame_on(FAULT_STACK);
    let tf = if frame.rflags & rflags::TF == 0 { "TF clear" } else { "TF set" };
    Ok((when, Answer::with(tf, format!("{} in the frame's RFLAGS", super::delivery::traces(frame.rflags)))))
}
