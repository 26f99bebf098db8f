//! What an SMI does to NMIs and to the shadow of an instruction (SDM vol. 3, 31.7 and 31.8). Its
//! handler is an RSM, in memory of its own.

use super::bench::{Bench, CODE, Came, Fail, HANDLERS, tell};
use super::code::{NOP, STI};
use super::spec::{Answer, Probe};
use crate::cpu::SHADOW_STI;
use crate::kvm::{Exit, Host};

const NO_SMM: &str = "no SMM";
const LAB: &str =
    "raises real ones for `smi@` where both `smi-in-nmi` and `smi-and-nmi` are right, and plays them elsewhere";

/// What the lab's own SMIs stand on ([`super::Facts::smm`]).
pub(super) const IN_NMI: &str = "smi-in-nmi";
pub(super) const AND_NMI: &str = "smi-and-nmi";
pub(super) const MASKED: &str = "masked";
pub(super) const AFTER: &str = "after the RSM";

pub const PROBES: &[Probe] = &[
    Probe {
        id: IN_NMI,
        property: "NMIs after an SMI that came inside an NMI handler, and whose own handler is one RSM",
        right: &[MASKED, NO_SMM],
        source: "SDM vol. 3, 31.8 NMI Handling While in SMM",
        lab: LAB,
        measure: |host| {
            with_smm(host, || {
                let mut bench = Bench::inside_nmi(host, CODE)?;
                Ok(match bench.vm.take_smi()? {
                    Ok(()) => Answer::from(if bench.masked() { MASKED } else { "unmasked" }),
                    Err(exit) => did_not_return(exit),
                })
            })
        },
    },
    Probe {
        id: AND_NMI,
        property: "an SMI and an NMI at once: where the NMI comes",
        right: &[AFTER, NO_SMM],
        source: "SDM vol. 3, 6.9 (SMIs before NMIs); 31.7",
        lab: LAB,
        measure: |host| {
            with_smm(host, || {
                let mut bench = Bench::new(host)?;
                bench.vm.raise_nmi()?;
                bench.vm.raise_smi()?;
                let came = bench.run()?;
                Ok(match (came, bench.vm.smi_from()) {
                    (Came::Handler(2), CODE) if bench.nmi_from() == CODE => AFTER.into(),
                    (Came::Handler(2), HANDLERS..CODE) => "before the SMI".into(),
                    (Came::Handler(2), from) => {
                        Answer::with("elsewhere", format!("the SMI at {from:#x}, the NMI at {:#x}", bench.nmi_from()))
                    }
                    (Came::Halt(_), _) => "never".into(),
                    (other, _) => tell(other).into(),
                })
            })
        },
    },
    Probe {
        id: "smi-in-shadow",
        property: "the shadow of an STI after an SMI in it",
        right: &["kept", NO_SMM],
        source: "SDM vol. 3, 6.8.3; Linux fb28875fd7da (KVM keeps it in what an SMI saves)",
        lab: "takes what comes",
        measure: |host| {
            with_smm(host, || {
                let mut bench = Bench::new(host)?;
                bench.put(CODE, &[STI, NOP].concat());
                bench.vm.state_mut().regs.rip = CODE + STI.len() as u64;
                bench.vm.state_mut().events.interrupt.shadow = SHADOW_STI;
                Ok(match bench.vm.take_smi()? {
                    Ok(()) if bench.vm.state().events.interrupt.shadow != 0 => "kept".into(),
                    Ok(()) => "lost".into(),
                    Err(exit) => did_not_return(exit),
                })
            })
        },
    },
];

/// Asks, if this host has SMIs.
fn with_smm(host: &Host, ask: impl FnOnce() -> Result<Answer, Fail>) -> Result<Answer, Fail> {
    if host.has_smm() { ask() } else { Ok(NO_SMM.into()) }
}

fn did_not_return(exit: Exit) -> Answer {
    Answer::with("does not return", tell(Came::Exit(exit)))
}
