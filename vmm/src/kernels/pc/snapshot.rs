//! Snapshots: the whole machine at one moment, and the way back to it.
//!
//! RAM goes back by KVM's log of dirty pages. The log misses what the VMM itself
//! writes, but that is only stops, which are taken away after each run, the words of
//! [`Pc::write_dirty`], whose pages are noted, and the bytes of [`Pc::write_kernel`], after which
//! the next restore copies all.

use super::devices::DeviceState;
use super::pit::Nanos;
use super::{Error, Pc};
use crate::cpu::msr;
use crate::kvm::{DeepState, DeepValues, VcpuState};

const PAGE: usize = 4096;

/// A machine at one moment.
pub struct Snapshot {
    vcpu: VcpuState,
    pub(super) deep: DeepState,
    pub(super) devices: DeviceState,
    ram: Vec<u8>,
    pub(super) frozen: Option<Nanos>,
    /// Where the time-stamp counter stood.
    pub(super) held: Option<u64>,
    breakpoints: u32,
    /// Pages that the guest has written since the machine was last put back.
    dirty: Vec<u64>,
    restored: usize,
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

    /// A page of its RAM, by guest-physical address.
    pub(in crate::kernels) fn page(&self, at: u64) -> &[u8] {
        &self.ram[at as usize..at as usize + PAGE]
    }

    /// Appends the words of a page at `at` that are another's than those in the snapshot.
    pub(in crate::kernels) fn words_changed(&self, at: u64, is: &[u8], out: &mut Vec<Change>) {
        let was = self.page(at);
        if was == is {
            return;
        }
        for (i, (was, is)) in was.as_chunks::<8>().0.iter().zip(is.as_chunks::<8>().0).enumerate() {
            if was != is {
                out.push(Change { at: at + 8 * i as u64, was: u64::from_le_bytes(*was) });
            }
        }
    }

    /// How many pages the last restore put back.
    pub fn pages_restored(&self) -> usize {
        self.restored
    }
}

/// A word of memory that is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its guest-physical address.
    pub at: u64,
    /// What it was.
    pub was: u64,
}

impl Pc {
    /// Copies the machine, its RAM into `room`; its clocks stand still from here on.
    pub fn snapshot(&mut self, mut room: Vec<u8>) -> Result<Snapshot, Error> {
        room.clear();
        room.extend_from_slice(self.vm.ram().bytes());
        self.freeze();
        self.rewind_console();
        self.vm.log_dirty_pages()?;
        // From here on it counts.
        self.take_dirty_pages(&mut Vec::new())?;
        self.snapshots += 1;
        self.current = self.snapshots;
        let deep = self.vm.deep_state()?;
        self.hold_clock(deep.tsc());
        Ok(Snapshot {
            id: self.current,
            vcpu: *self.vm.state(),
            deep,
            devices: self.devices.save(),
            ram: room,
            frozen: self.frozen,
            held: self.held,
            breakpoints: self.breakpoints,
            dirty: Vec::new(),
            restored: 0,
        })
    }

    /// The words of memory that the guest has changed since the machine was put back to
    /// `since`, by guest-physical address. What the VMM wrote itself is not among them, but for
    /// what it wrote in the guest's place.
    pub fn changes(&mut self, since: &mut Snapshot) -> Result<Vec<Change>, Error> {
        self.take_dirty_pages(&mut since.dirty)?;
        since.dirty.sort_unstable();
        since.dirty.dedup();
        let mut out = Vec::new();
        for page in &since.dirty {
            since.words_changed(*page, self.page(*page), &mut out);
        }
        Ok(out)
    }

    /// The page of RAM at a guest-physical address.
    pub(in crate::kernels) fn page(&self, at: u64) -> &[u8] {
        &self.vm.ram().bytes()[at as usize..at as usize + PAGE]
    }

    /// Overwrites a page of RAM, of which KVM's log of dirty pages does not learn.
    pub(in crate::kernels) fn set_page(&mut self, at: u64, bytes: &[u8]) {
        self.vm.ram_mut()[at as usize..at as usize + PAGE].copy_from_slice(bytes);
    }

    /// Appends the pages that the guest has written since the last call.
    pub(in crate::kernels) fn take_dirty_pages(&mut self, out: &mut Vec<u64>) -> Result<(), Error> {
        out.append(&mut self.written);
        Ok(self.vm.take_dirty_pages(out)?)
    }

    /// What the vCPU holds beyond registers and events, without the time-stamp counter.
    pub(in crate::kernels) fn deep_without_clock(&self) -> Result<(DeepValues, DeepState), Error> {
        let mut values = self.vm.deep_state()?.values();
        values.msrs.retain(|(index, _)| *index != msr::TSC);
        let state = DeepState::of(&values)?;
        Ok((values, state))
    }

    /// Loads it.
    pub(in crate::kernels) fn load_deep(&mut self, state: &DeepState) -> Result<(), Error> {
        Ok(self.vm.load_deep_state(state)?)
    }

    /// Whether no device has changed since a snapshot.
    pub(in crate::kernels) fn devices_are_as_in(&mut self, snapshot: &Snapshot) -> bool {
        self.devices.save() == snapshot.devices
    }

    /// Puts the machine back.
    pub fn restore(&mut self, from: &mut Snapshot) -> Result<(), Error> {
        self.take_dirty_pages(&mut from.dirty)?;
        let ram = self.vm.ram_mut();
        if self.current != from.id {
            ram.copy_from_slice(&from.ram);
            self.current = from.id;
        }
        for page in &from.dirty {
            let page = *page as usize..*page as usize + 4096;
            ram[page.clone()].copy_from_slice(&from.ram[page]);
        }
        from.restored = from.dirty.len();
        from.dirty.clear();
        *self.vm.state_mut() = from.vcpu;
        self.vm.load_deep_state(&from.deep)?;
        self.devices.restore(&from.devices);
        self.frozen = from.frozen;
        self.held = from.held;
        self.breakpoints = from.breakpoints;
        self.rewind_console();
        Ok(())
    }
}
