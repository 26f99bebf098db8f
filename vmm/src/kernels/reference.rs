//! What a machine is like at the first NMI's site, before any NMI.

use super::error::LabError;
use super::footprint::Footprint;
use super::kernel::{Kernel, Vital};
use super::pc::Pc;
use crate::cpu::{Lazy, rflags};
use crate::kvm::VcpuState;

/// What the machine was like at the site, to which every case is held.
#[derive(Debug)]
pub struct Reference {
    pub(super) context: VcpuState,
    pub(super) lazy: Lazy,
    pub(super) vitals: Vec<Vital>,
    /// What NMIs write.
    pub footprint: Footprint,
}

impl Reference {
    /// That of a machine which stands at its site, as the snapshot puts it there.
    pub fn of(pc: &Pc, kernel: &dyn Kernel) -> Result<Self, LabError> {
        Ok(Self {
            context: whole(pc)?,
            lazy: comparable(pc.lazy()?),
            vitals: kernel.vitals(pc)?,
            footprint: Footprint::default(),
        })
    }
}

/// The state with IA32_KERNEL_GS_BASE, which else stays in the vCPU.
pub(super) fn whole(pc: &Pc) -> Result<VcpuState, LabError> {
    let mut state = *pc.state();
    state.kernel_gs = pc.swapped_gs()?;
    // The upper half is reserved (SDM vol. 1, 3.4.3), and no CPU loads it. The emulator of kvm_pvm
    // keeps what an iretq finds there.
    state.regs.rflags &= u64::from(u32::MAX) & !rflags::RF;
    Ok(state)
}

/// The lazy state without what of an XSAVE area is only bookkeeping: which components are in
/// their initial state (SDM vol. 1, 13.4.2), and bytes that the CPU leaves to software.
pub(super) fn comparable(mut lazy: Lazy) -> Lazy {
    const BOOKKEEPING: std::ops::Range<usize> = 464 / 4..576 / 4;
    if let Some(words) = lazy.vector.get_mut(BOOKKEEPING) {
        words.fill(0);
    }
    lazy
}
