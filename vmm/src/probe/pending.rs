//! What becomes of pending NMIs where a VMM reads the events out and writes them back, as it does to
//! save a vCPU, to move it, and here with every run; of an NMI that comes to a halted CPU; and
//! whether the host has virtual NMIs.
//!
//! A reset is what a VMM does by writing state: the lab's vCPUs have no local APIC that an INIT could
//! come by.

use super::bench::{Bench, CODE, Came, Fail, Frame, TARGET, unexpected};
use super::code::{HLT, IRETQ, NOP, then_nops};
use super::spec::{ANY, Answer, Probe, source};
use crate::kvm::Host;

/// Instructions after which an NMI that has not come is lost: some hosts look for one every 1024
/// (probe `nmi-after-iretq`).
const ROOM: usize = 4096;

pub const PROBES: &[Probe] = &[
    Probe {
        id: "pending-saved",
        property: "two NMIs while masked, read out and written to another vCPU: kept, and delivered there",
        right: &["1 kept, 1 delivered"],
        source: source::NMI_COUNT,
        lab: "keeps a pending NMI in the VMM itself",
        measure: saved,
    },
    Probe {
        id: "pending-round-trip",
        property: "an NMI, the events read out and written back, and another NMI: deliveries",
        right: &["2"],
        source: source::NMI_COUNT,
        lab: "keeps a pending NMI in the VMM itself, and raises it at its boundary",
        measure: round_trip,
    },
    Probe {
        id: "pending-reset",
        property: "two NMIs while unmasked, and events written that have none pending, as at a reset: deliveries",
        right: &["0"],
        source: "KVM API, KVM_SET_VCPU_EVENTS (KVM_VCPUEVENT_VALID_NMI_PENDING)",
        lab: "writes events before it raises an NMI, and raises one at a time",
        measure: reset,
    },
    Probe {
        id: "hlt-nmi",
        property: "an NMI that is raised while the CPU is halted comes after the HLT",
        right: &["after it"],
        source: "SDM vol. 2, HLT",
        lab: "a guest that waits by HLT (`halts=`) is woken by the VMM",
        measure: halted,
    },
    Probe {
        id: "vnmi",
        property: "KVM's module says that NMIs are virtual (its parameter vnmi)",
        right: ANY,
        source: "Linux, arch/x86/kvm: the parameter vnmi of kvm_amd and kvm_intel",
        lab: "reads mask and latch from the vCPU events, which say the same with and without",
        measure: |_| Ok(virtual_nmis().into()),
    },
];

fn virtual_nmis() -> String {
    let of = |module| std::fs::read_to_string(format!("/sys/module/{module}/parameters/vnmi"));
    match ["kvm_amd", "kvm_intel"].into_iter().find_map(|module| of(module).ok()) {
        Some(text) if ["Y", "1"].contains(&text.trim()) => "yes".into(),
        Some(_) => "no".into(),
        None => "it does not say".into(),
    }
}

/// Runs until a HLT that is no handler's; how many NMIs came before it.
fn deliveries(bench: &mut Bench) -> Result<u32, Fail> {
    const MANY: u32 = 10;
    let mut count = 0;
    while count < MANY {
        match bench.run()? {
            Came::Handler(2) => count += 1,
            Came::Halt(_) => break,
            other => return Err(unexpected("NMIs", other)),
        }
    }
    Ok(count)
}

fn saved(host: &Host) -> Result<Answer, Fail> {
    let mut from = Bench::inside_nmi(host, CODE)?;
    from.vm.raise_nmi()?;
    from.vm.raise_nmi()?;
    from.vm.run_at_once()?;
    let events = from.vm.state().events;

    let mut to = Bench::inside_nmi(host, CODE)?;
    to.put(CODE, IRETQ);
    to.put(TARGET, &then_nops(&[], ROOM));
    to.go(CODE);
    to.push_frame(Frame::kernel(TARGET));
    to.vm.state_mut().events = events;
    let delivered = deliveries(&mut to)?;
    Ok(format!("{} kept, {delivered} delivered", events.nmi.pending).into())
}

fn round_trip(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(&[], ROOM));
    bench.vm.raise_nmi()?;
    bench.vm.run_at_once()?;
    bench.vm.raise_nmi()?;
    Ok(deliveries(&mut bench)?.to_string().into())
}

fn reset(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &then_nops(&[], ROOM));
    let events = bench.vm.state().events;
    bench.vm.raise_nmi()?;
    bench.vm.raise_nmi()?;
    bench.vm.write_events(events)?;
    Ok(deliveries(&mut bench)?.to_string().into())
}

fn halted(host: &Host) -> Result<Answer, Fail> {
    let mut bench = Bench::new(host)?;
    bench.put(CODE, &[NOP, HLT, NOP, HLT].concat());
    match bench.run()? {
        Came::Halt(at) if at == CODE + 1 => {}
        other => return Err(unexpected("a HLT", other)),
    }
    bench.vm.raise_nmi()?;
    match bench.run()? {
        Came::Handler(2) if bench.nmi_from() == CODE + 2 => Ok("after it".into()),
        Came::Handler(2) => Ok("elsewhere".into()),
        Came::Halt(_) => Ok("never".into()),
        other => Err(unexpected("an NMI at a HLT", other)),
    }
}
