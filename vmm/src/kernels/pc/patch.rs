//! Stops: a HLT in the place of an instruction's first byte, for the time of one run.

use super::Pc;
use crate::cpu::control::CR0_PG;

const HLT: u8 = 0xf4;

impl Pc {
    /// Puts a stop at an instruction of the kernel.
    pub(super) fn patch(&mut self, addr: u64) {
        if self.is_elsewhere(addr) {
            return;
        }
        let before_paging = || self.symbols.loaded_at(addr).filter(|_| self.state().sregs.cr0 & CR0_PG == 0);
        let Some(at) = self
            .physical(addr)
            .filter(|_| self.state().sregs.cr0 & CR0_PG != 0)
            .or_else(before_paging)
            .map(|p| p as usize)
        else {
            return;
        };
        if let Some(byte) = self.vm.ram_mut().get_mut(at) {
            let old = std::mem::replace(byte, HLT);
            self.patches.push((at, old));
        }
    }

    /// Takes all stops away.
    pub(super) fn unpatch(&mut self) {
        put_back(self.vm.ram_mut(), &mut self.patches);
    }
}

/// Puts back what stops stand in the place of, the last first, since one that is put twice is put
/// back twice. What the guest has written there meanwhile stays: while a kernel comes up, it replaces
/// its own instructions (CLAC, for one, where the CPU has it).
fn put_back(ram: &mut [u8], patches: &mut Vec<(usize, u8)>) {
    for (at, old) in patches.drain(..).rev() {
        if ram[at] == HLT {
            ram[at] = old;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_writes_over_a_stop_stays() {
        let mut ram = [HLT, HLT, 0x0f];
        let mut patches = vec![(0, 0x90), (1, 0xcc), (0, HLT), (2, 0x90)];
        put_back(&mut ram, &mut patches);
        assert_eq!((ram, patches.len()), ([0x90, 0xcc, 0x0f], 0));
    }
}
