//! Exits, state that goes in and out, and instructions that a host may lack.

use std::time::Instant;

use super::bench::{Bench, CODE, Came, DATA, FAULT_STACK, Fail, UNMAPPED, tell, unexpected};
use super::code::*;
use super::spec::{ANY, Answer, Probe, source};
use crate::cpu::SHADOW_MOV_SS;
use crate::kvm::{Exit, Host};
use crate::machine::Transport;

pub const PROBES: &[Probe] = &[
    Probe {
        id: "out-rip",
        property: "RIP at the exit of an OUT",
        right: &["behind it", "at it, moved by the next KVM_RUN"],
        source: source::RUN_API,
        lab: "completes an OUT by a run that leaves at once, where RIP is still at it",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[OUT, HLT].concat());
            match bench.run()? {
                Came::Exit(Exit::Out { .. }) if bench.rip() == CODE + 2 => {}
                other => return Err(unexpected("an OUT", other)),
            }
            match bench.vm.out_is_complete() {
                Some(true) => Ok("behind it".into()),
                Some(false) => Ok("at it, moved by the next KVM_RUN".into()),
                None => Err(Fail::Unexpected("the OUT was not looked at".into())),
            }
        },
    },
    Probe {
        id: "out-nmi",
        property: "an NMI raised behind an OUT comes before the next instruction",
        right: &["exact"],
        source: source::NMI,
        lab: "hypercalls are OUTs, and NMIs arrive behind them",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &then_nops(OUT, 8));
            bench.run()?;
            bench.enter_nmi()?;
            Ok(if bench.nmi_from() == CODE + 2 { "exact".into() } else { "late".into() })
        },
    },
    Probe {
        id: "events-settable",
        property: "NMI masked, pending, injected and the MOV SS shadow read back as they were set",
        right: &["all"],
        source: source::EVENTS_API,
        lab: "checkpoints hold them",
        measure: settable,
    },
    Probe {
        id: "sync-regs",
        property: "parts of the state that go in and out with KVM_RUN (KVM_CAP_SYNC_REGS)",
        right: &["registers, system registers, events"],
        source: source::RUN_API,
        lab: "a run is one KVM_RUN; a host without all three is refused",
        measure: |host| {
            let bits = host.caps().sync_regs;
            let names = [(1, "registers"), (2, "system registers"), (4, "events")];
            let have: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
            Ok(have.join(", ").into())
        },
    },
    Probe {
        id: "triple-fault",
        property: "the exit of a triple fault",
        right: &["KVM_EXIT_SHUTDOWN"],
        source: source::RUN_API,
        lab: "the verdict is shutdown, and tells no registers: some hosts have reset the vCPU by then",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, UD2);
            bench.vm.state_mut().sregs.idt.limit = 0;
            let came = bench.run()?;
            let rip = bench.rip();
            let kept = if rip == CODE { "RIP still at the instruction".into() } else { format!("RIP {rip:#x}") };
            Ok(Answer::with(tell(came), kept))
        },
    },
    Probe {
        id: "page-fault",
        property: "a load from a page that is not present: #PF at it, CR2 its address",
        right: &["#PF at it, CR2 right"],
        source: source::EXCEPTIONS,
        lab: "the guest's lazy vmalloc mappings rely on it",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[LOAD, HLT].concat());
            bench.vm.state_mut().regs.rbx = UNMAPPED + 0x123;
            let came = bench.run()?;
            if came != Came::Handler(14) {
                return Ok(tell(came).into());
            }
            let place = if bench.frame_on(FAULT_STACK).rip == CODE { "at it" } else { "elsewhere" };
            let right = bench.vm.state().sregs.cr2 == UNMAPPED + 0x123;
            Ok(format!("#PF {place}, CR2 {}", if right { "right" } else { "wrong" }).into())
        },
    },
    Probe {
        id: "sse",
        property: "an SSE instruction (pxor) at CPL 0",
        right: &["executed"],
        source: "SDM vol. 2, PXOR",
        lab: "the guest's image holds none",
        measure: |host| executed(host, PXOR),
    },
    Probe {
        id: "popcnt",
        property: "popcnt at CPL 0",
        right: &["executed"],
        source: "SDM vol. 2, POPCNT",
        lab: "the guest's image holds none",
        measure: |host| executed(host, POPCNT),
    },
    Probe {
        id: "store",
        property: "a store at CPL 0 is seen from outside",
        right: &["executed"],
        source: "SDM vol. 2, MOV",
        lab: "checkpoints are copies of guest memory",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, &[STORE, HLT].concat());
            let regs = &mut bench.vm.state_mut().regs;
            (regs.rax, regs.rbx) = (0x1234_5678_9abc_def0, DATA);
            let came = bench.run()?;
            Ok(match bench.peek(DATA) {
                0x1234_5678_9abc_def0 => "executed".into(),
                _ => tell(came).into(),
            })
        },
    },
    Probe {
        id: "watchdog",
        property: "a guest that loops for ever is interrupted",
        right: &["interrupted"],
        source: "KVM API, KVM_RUN",
        lab: "every KVM_RUN is under a watchdog",
        measure: |host| {
            let mut bench = Bench::new(host)?;
            bench.put(CODE, SPIN);
            let start = Instant::now();
            Ok(match bench.run()? {
                Came::Exit(Exit::Interrupted) => {
                    Answer::with("interrupted", format!("after {} ms", start.elapsed().as_millis()))
                }
                other => tell(other).into(),
            })
        },
    },
    Probe {
        id: "xen-hypercalls",
        property: "KVM_CAP_XEN_HVM (Xen's hypercall page)",
        right: ANY,
        source: "KVM API, KVM_CAP_XEN_HVM",
        lab: "see hypercall-transport",
        measure: |host| Ok(format!("{:#x}", host.caps().xen_hvm).into()),
    },
    Probe {
        id: "hypercall-transport",
        property: "what carries PV hypercalls: Xen's page where a call through it leaves exactly",
        right: ANY,
        source: "KVM API, KVM_CAP_XEN_HVM, KVM_EXIT_XEN",
        lab: "in use unless --transport says otherwise",
        measure: |host| {
            Ok(match Transport::measure(host) {
                Transport::Xen => "xen (hypercall page)".into(),
                Transport::Port => "port (port I/O)".into(),
            })
        },
    },
    Probe {
        id: "smm",
        property: "KVM_CAP_X86_SMM (system management mode)",
        right: ANY,
        source: "KVM API, KVM_CAP_X86_SMM",
        lab: "raises SMIs for `smi@`; `unmask@` stands for one whose handler executes IRET, and is played",
        measure: |host| Ok(if host.caps().smm { "yes".into() } else { "no".into() }),
    },
];

/// Probes that may hang the process in the kernel: only run where asked for.
pub const RISKY: &[Probe] = &[
    Probe {
        id: "vmcall",
        property: "vmcall at CPL 0 returns or faults",
        right: &["executed", "#UD's handler"],
        source: "SDM vol. 3, VMCALL; KVM API, Hypercalls",
        lab: "hypercalls are port I/O",
        measure: |host| executed(host, VMCALL),
    },
    Probe {
        id: "vmmcall",
        property: "vmmcall at CPL 0 returns or faults",
        right: &["executed", "#UD's handler"],
        source: "APM vol. 3, VMMCALL; KVM API, Hypercalls",
        lab: "hypercalls are port I/O",
        measure: |host| executed(host, VMMCALL),
    },
];

fn executed(host: &Host, instruction: &[u8]) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &[instruction, HLT].concat());
    Ok(match bench.run()? {
        Came::Halt(at) if at == CODE + instruction.len() as u64 => "executed".into(),
        other => tell(other).into(),
    })
}

/// One byte of the vCPU events.
type Field = fn(&mut crate::cpu::Events) -> &mut u8;

fn settable(host: &Host) -> Result<Answer, Fail> {
    let rows: &[(&str, Field, u8)] = &[
        ("masked", |e| &mut e.nmi.masked, 1),
        ("pending", |e| &mut e.nmi.pending, 1),
        ("injected", |e| &mut e.nmi.injected, 1),
        ("shadow", |e| &mut e.interrupt.shadow, SHADOW_MOV_SS),
    ];
    let mut lost = Vec::new();
    for (name, field, value) in rows {
        let mut bench = Bench::new(host)?;
        *field(&mut bench.vm.state_mut().events) = *value;
        if *name == "pending" {
            bench.vm.state_mut().events.nmi.masked = 1;
        }
        bench.vm.run_at_once()?;
        let mut events = bench.vm.state().events;
        // kvm_amd tells no shadow from the other and reports both.
        if *field(&mut events) & *value == 0 {
            lost.push(*name);
        }
    }
    Ok(if lost.is_empty() { "all".into() } else { format!("not {}", lost.join(", ")).into() })
}
