//! Where Xen keeps, for the guest's vCPU, that an NMI is still to be told, and that the guest is in
//! its NMI callback. `struct vcpu` has no symbols; its fields are found where `process_nmi` uses them.

use std::time::Duration;

use iced_x86::{Mnemonic, OpKind};

use crate::kernels::pc::{Error, Pc, Stop};
use crate::machine::Raise;

/// Names under which the fields' addresses are kept among the symbols.
pub(super) const PENDING: &str = "vcpu0_nmi_pending";
pub(super) const MASK: &str = "vcpu0_async_exception_mask";

/// The longest way to the two fields' use, in instructions.
const LONGEST: usize = 32;
/// CPU time that an NMI takes to come to `process_nmi`.
const LIMIT: Duration = Duration::from_secs(5);

/// Lets one NMI come as far as `process_nmi`, and reads there which vCPU it is for. The machine is as
/// before then. Returns the addresses of `nmi_pending` and `async_exception_mask`.
pub(super) fn find(pc: &mut Pc) -> Result<(u64, u64), Error> {
    let missing = |what: &str| Error::Symbols(format!("{what}: what Xen still has to tell the guest cannot be found"));
    let process = pc.symbols.get("process_nmi").ok_or_else(|| missing("there is no process_nmi"))?;
    let (mut mask, mut pending) = (None, None);
    let mut at = process;
    for _ in 0..LONGEST {
        let Some(d) = pc.instruction(at) else { break };
        let insn = &d.insn;
        let field = (insn.op0_kind() == OpKind::Memory).then(|| (insn.memory_base(), insn.memory_displacement64()));
        match insn.mnemonic() {
            Mnemonic::Test if mask.is_none() => mask = field,
            Mnemonic::Mov if pending.is_none() && insn.op1_kind() == OpKind::Immediate8 => pending = field,
            _ => {}
        }
        at = insn.next_ip();
    }
    let (Some((base, mask)), Some((_, pending))) = (mask, pending) else {
        return Err(missing("process_nmi does not use them as is known"));
    };
    let mut before = pc.snapshot(Vec::new())?;
    let delivered = pc.deliver_nmi(Raise::Events, LIMIT)?;
    let arrived = if matches!(delivered, Stop::At(_)) { pc.run(&[process], LIMIT)? } else { delivered };
    let vcpu = pc.register(base);
    pc.restore(&mut before)?;
    match (arrived, vcpu) {
        (Stop::At(_), Some(vcpu)) => Ok((vcpu.wrapping_add(pending), vcpu.wrapping_add(mask))),
        (stop, _) => Err(Error::Boot {
            why: format!("an NMI was not passed on to the guest: {stop:?} before process_nmi"),
            console: pc.console_tail(4),
        }),
    }
}
