//! Guest RAM as one flat slice.

use std::io::Cursor;

use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use super::Error;

/// One region of guest RAM from guest-physical address 0 up.
pub struct Ram {
    mmap: GuestMemoryMmap,
    base: *mut u8,
    len: usize,
}

// SAFETY: `base` points into `mmap`, which is owned, shared with nobody and not
// bound to a thread.
unsafe impl Send for Ram {}

impl Ram {
    /// Maps `bytes` of zeroed RAM.
    pub fn new(bytes: u64) -> Result<Self, Error> {
        let fail = |why: String| Error::Ram { bytes, why };
        let len = usize::try_from(bytes).map_err(|e| fail(e.to_string()))?;
        let mmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).map_err(|e| fail(e.to_string()))?;
        let region = mmap.find_region(GuestAddress(0)).ok_or_else(|| fail("no region at 0".into()))?;
        let base = region.get_host_address(MemoryRegionAddress(0)).map_err(|e| fail(e.to_string()))?;
        Ok(Self { mmap, base, len })
    }

    /// Bytes of RAM.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// The host address of guest-physical address 0, for the memory slot.
    pub(super) fn host_address(&self) -> u64 {
        self.base as u64
    }

    /// Copies the segments of an ELF kernel to their physical addresses; returns its entry point.
    ///
    /// `mmap` itself is given to nobody: it can be cloned, and written to by a clone while a slice
    /// of [`Self::bytes`] is alive.
    pub fn load_elf(&mut self, elf: &[u8]) -> Result<u64, linux_loader::loader::Error> {
        Ok(Elf::load(&self.mmap, None, &mut Cursor::new(elf), None)?.kernel_load.0)
    }

    /// All of RAM.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `base` and `len` describe the one region of `mmap`, which lives as
        // long as `self`. The guest writes to it only during KVM_RUN, for which
        // `Vm::run` takes `&mut`, so no shared slice is alive then.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    /// All of RAM, to write to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }
}
