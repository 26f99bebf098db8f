//! Snapshots: the whole machine at one moment, and the way back to it.
//!
//! RAM goes back by KVM's log of dirty pages. The log misses what the VMM itself
//! writes, but that is only stops, which are taken away after each run, and the bytes
//! of [`Pc::write_kernel`], after which the next restore copies all.

use super::devices::DeviceState;
use super::pit::Nanos;
use super::{Error, Pc};
use crate::kvm::{DeepState, VcpuState};

/// A machine at one moment.
pub struct Snapshot {
    vcpu: VcpuState,
    deep: DeepState,
    devices: DeviceState,
    ram: Vec<u8>,
    frozen: Option<Nanos>,
    dirty: Vec<u64>,
    /// Tells snapshots apart: KVM's log counts from the one restored last.
    id: u64,
}

impl Snapshot {
    /// Registers and events at that moment.
    pub fn vcpu(&self) -> &VcpuState {
        &self.vcpu
    }

    /// RAM at that moment.
    pub fn ram(&self) -> &[u8] {
        &self.ram
    }

    /// The room that its RAM takes, for another snapshot; this one is of no use then.
    pub fn take_room(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ram)
    }

    /// How many pages the last restore put back.
    pub fn pages_restored(&self) -> usize {
        self.dirty.len()
    }
}

impl Pc {
    /// Copies the machine, its RAM into `room`; device time stands still from here on.
    pub fn snapshot(&mut self, mut room: Vec<u8>) -> Result<Snapshot, Error> {
        room.clear();
        room.extend_from_slice(self.vm.ram().bytes());
        self.freeze();
        self.rewind_console();
        self.vm.log_dirty_pages()?;
        let mut dirty = Vec::new();
        self.vm.take_dirty_pages(&mut dirty)?;
        self.snapshots += 1;
        self.current = self.snapshots;
        Ok(Snapshot {
            id: self.current,
            vcpu: *self.vm.state(),
            deep: self.vm.deep_state()?,
            devices: self.devices.save(),
            ram: room,
            frozen: self.frozen,
            dirty,
        })
    }

    /// If the next instruction reads the time-stamp counter, answers it with `ticks`
    /// after the snapshot: a kernel that is stepped must not see how long that takes.
    pub fn answer_rdtsc(&mut self, at: &Snapshot, ticks: u64) -> bool {
        let Some(d) = self.next_instruction().filter(|d| d.insn.mnemonic() == iced_x86::Mnemonic::Rdtsc) else {
            return false;
        };
        let now = at.deep.tsc().wrapping_add(ticks);
        let regs = &mut self.state_mut().regs;
        (regs.rax, regs.rdx, regs.rip) = (now & 0xffff_ffff, now >> 32, d.insn.next_ip());
        true
    }

    /// Puts the machine back.
    pub fn restore(&mut self, from: &mut Snapshot) -> Result<(), Error> {
        from.dirty.clear();
        self.vm.take_dirty_pages(&mut from.dirty)?;
        let ram = self.vm.ram_mut();
        if self.current != from.id {
            ram.copy_from_slice(&from.ram);
            self.current = from.id;
        }
        for page in &from.dirty {
            let page = *page as usize..*page as usize + 4096;
            ram[page.clone()].copy_from_slice(&from.ram[page]);
        }
        *self.vm.state_mut() = from.vcpu;
        self.vm.load_deep_state(&from.deep)?;
        self.devices.restore(&from.devices);
        self.frozen = from.frozen;
        self.rewind_console();
        Ok(())
    }
}
