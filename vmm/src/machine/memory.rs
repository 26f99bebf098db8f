//! Guest memory by guest-virtual address.

use super::paging::translate;

/// Guest RAM, to read by virtual address.
#[derive(Clone, Copy)]
pub struct GuestMemory<'a>(pub &'a [u8]);

/// Guest RAM, to write by virtual address.
pub struct GuestMemoryMut<'a>(pub &'a mut [u8]);

impl GuestMemory<'_> {
    /// Reads bytes; `false` where a page is not mapped.
    pub fn read(&self, cr3: u64, vaddr: u64, out: &mut [u8]) -> bool {
        let mut done = 0;
        while done < out.len() {
            let at = vaddr.wrapping_add(done as u64);
            let n = (4096 - (at % 4096) as usize).min(out.len() - done);
            let Some(bytes) = translate(self.0, cr3, at).and_then(|p| self.0.get(p as usize..p as usize + n)) else {
                return false;
            };
            out[done..done + n].copy_from_slice(bytes);
            done += n;
        }
        true
    }

    /// Reads `N` 64-bit words.
    pub fn words<const N: usize>(&self, cr3: u64, vaddr: u64) -> Option<[u64; N]> {
        let mut raw = [[0; 8]; N];
        self.read(cr3, vaddr, raw.as_flattened_mut()).then(|| raw.map(u64::from_le_bytes))
    }

    /// Reads one 64-bit word.
    pub fn word(&self, cr3: u64, vaddr: u64) -> Option<u64> {
        self.words::<1>(cr3, vaddr).map(|[w]| w)
    }
}

impl GuestMemoryMut<'_> {
    /// The same memory, to read only.
    pub fn shared(&self) -> GuestMemory<'_> {
        GuestMemory(self.0)
    }

    /// Writes 64-bit words; `false`, and nothing written, where a page is not mapped.
    pub fn write_words(&mut self, cr3: u64, vaddr: u64, words: &[u64]) -> bool {
        let mapped = |i: usize| translate(self.0, cr3, vaddr.wrapping_add(i as u64));
        if !(0..words.len() * 8).step_by(8).chain([words.len() * 8 - 1]).all(|i| mapped(i).is_some()) {
            return false;
        }
        for (i, byte) in words.iter().flat_map(|w| w.to_le_bytes()).enumerate() {
            let Some(paddr) = translate(self.0, cr3, vaddr.wrapping_add(i as u64)) else { return false };
            if let Some(b) = self.0.get_mut(paddr as usize) {
                *b = byte;
            }
        }
        true
    }
}
