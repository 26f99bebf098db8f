//! What an SMI does to NMIs (SDM vol. 3, 31.7 and 31.8). Its handler is one RSM, where the processor
//! looks for it after a reset.

use super::bench::{Bench, CODE, Came, Fail, tell};
use super::code::RSM;
use super::spec::{Answer, Probe};
use crate::kvm::Host;

/// SMBASE after a reset, and the handler's first instruction (SDM vol. 3, 31.4).
const SMI_HANDLER: u64 = 0x3_0000 + 0x8000;
const NO_SMM: &str = "no SMM";
const PLAYED: &str = "plays SMIs itself: `smi@`";

pub const PROBES: &[Probe] = &[
    Probe {
        id: "smi-in-nmi",
        property: "NMIs after an SMI that came inside an NMI handler, and whose own handler is one RSM",
        right: &["masked", "unmasked", NO_SMM],
        source: "SDM vol. 3, 31.8 NMI Handling While in SMM (processors differ)",
        lab: PLAYED,
        measure: |host| {
            with_smi(
                host,
                |host| Bench::inside_nmi(host, CODE),
                |bench| {
                    let at = match bench.run()? {
                        Came::Halt(at) => at,
                        other => return Ok(tell(other).into()),
                    };
                    Ok(Answer::with(if bench.masked() { "masked" } else { "unmasked" }, format!("HLT at {at:#x}")))
                },
            )
        },
    },
    Probe {
        id: "smi-and-nmi",
        property: "an SMI and an NMI at once: where the NMI comes",
        right: &["after the RSM", "before the SMI", NO_SMM],
        source: "SDM vol. 3, 6.9 (SMIs before NMIs); 31.7",
        lab: PLAYED,
        measure: |host| {
            with_smi(host, Bench::new, |bench| {
                bench.vm.raise_nmi()?;
                match bench.run()? {
                    Came::Handler(2) if bench.nmi_from() == CODE => Ok("after the RSM".into()),
                    Came::Handler(2) if bench.nmi_from() == SMI_HANDLER => Ok("before the SMI".into()),
                    Came::Handler(2) => Ok(Answer::with("elsewhere", format!("at {:#x}", bench.nmi_from()))),
                    Came::Halt(_) => Ok("never".into()),
                    other => Ok(tell(other).into()),
                }
            })
        },
    },
];

/// Asks where an SMI has come, if this host has them.
fn with_smi(
    host: &Host,
    begin: impl FnOnce(&Host) -> Result<Bench, Fail>,
    ask: impl FnOnce(&mut Bench) -> Result<Answer, Fail>,
) -> Result<Answer, Fail> {
    if !host.caps().smm {
        return Ok(NO_SMM.into());
    }
    let mut bench = begin(host)?;
    bench.put(SMI_HANDLER, RSM);
    bench.vm.raise_smi()?;
    ask(&mut bench)
}
