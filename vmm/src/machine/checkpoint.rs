//! The whole state of a machine, copied out and put back.

use super::lab::Machine;
use super::pv::Pv;
use crate::kvm::VcpuState;

/// The complete state of a machine at a boundary.
#[derive(Clone)]
pub struct Checkpoint {
    /// Registers and events.
    pub vcpu: VcpuState,
    /// The PV layer's state.
    pub pv: Pv,
    /// An NMI that arrived while masked and is kept by the VMM.
    pub latched: bool,
    /// The writable pages, in order.
    pub pages: Vec<u8>,
}

impl Machine {
    /// Copies the whole state.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut out = Checkpoint { vcpu: *self.vm.state(), pv: self.pv, latched: self.latched, pages: Vec::new() };
        self.checkpoint_into(&mut out);
        out
    }

    /// Copies the whole state into an existing checkpoint of this machine.
    pub fn checkpoint_into(&self, out: &mut Checkpoint) {
        (out.vcpu, out.pv, out.latched) = (*self.vm.state(), self.pv, self.latched);
        out.pages.resize(self.pages.len() * 4096, 0);
        let ram = self.vm.ram().bytes();
        for (page, to) in self.pages.iter().zip(out.pages.chunks_exact_mut(4096)) {
            to.copy_from_slice(&ram[*page as usize..*page as usize + 4096]);
        }
    }

    /// Puts back all but memory.
    pub fn restore_registers(&mut self, vcpu: &VcpuState, pv: &Pv, latched: bool) {
        *self.vm.state_mut() = *vcpu;
        (self.pv, self.latched) = (*pv, latched);
        self.restored = true;
    }

    /// Writes a 64-bit word of the writable pages, by its number in a checkpoint's pages.
    pub fn put_word(&mut self, index: usize, value: u64) {
        let at = self.pages[index / 512] as usize + index % 512 * 8;
        self.vm.ram_mut()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Puts the whole state back.
    pub fn restore(&mut self, from: &Checkpoint) {
        self.restore_registers(&from.vcpu, &from.pv, from.latched);
        self.put_pages(&from.pages);
    }

    /// Writes all writable pages.
    pub fn put_pages(&mut self, pages: &[u8]) {
        let ram = self.vm.ram_mut();
        for (page, bytes) in self.pages.iter().zip(pages.chunks_exact(4096)) {
            ram[*page as usize..*page as usize + 4096].copy_from_slice(bytes);
        }
    }
}
