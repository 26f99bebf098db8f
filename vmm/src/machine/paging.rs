//! Guest-virtual to guest-physical, by the guest's own page tables.

use crate::cpu::page::{ACCESSED, ADDRESS, DIRTY, LARGE, PRESENT, USER, WRITE};

/// The bits of CR3 that say where the root is.
pub const ROOT: u64 = ADDRESS;

/// Walks the four levels of tables at `cr3` (SDM vol. 3, 4.5). `None` where the
/// address is not mapped, or a table lies outside RAM.
pub fn translate(ram: &[u8], cr3: u64, vaddr: u64) -> Option<u64> {
    let mut table = cr3 & ADDRESS;
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let entry = read_u64(ram, table + (vaddr >> shift & 0x1ff) * 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || (entry & LARGE != 0 && level < 3) {
            let offset = (1u64 << shift) - 1;
            return Some(entry & ADDRESS & !offset | vaddr & offset);
        }
        table = entry & ADDRESS;
    }
    None
}

/// Physical addresses of the entries that the walk for `vaddr` reads, the root's first.
pub fn walk(ram: &[u8], cr3: u64, vaddr: u64) -> impl Iterator<Item = u64> {
    let mut table = Some(cr3 & ADDRESS);
    let mut level = 4;
    std::iter::from_fn(move || {
        level = if level == 0 { return None } else { level - 1 };
        let at = table? + (vaddr >> (12 + 9 * level) & 0x1ff) * 8;
        let entry = read_u64(ram, at).unwrap_or(0);
        let goes_on = entry & PRESENT != 0 && (entry & LARGE == 0 || level == 3);
        table = goes_on.then_some(entry & ADDRESS);
        Some(at)
    })
}

/// Whether code at CPL3 may access `vaddr`: each level says so (SDM vol. 3, 4.6).
pub fn is_user(ram: &[u8], cr3: u64, vaddr: u64) -> bool {
    let mut table = cr3 & ADDRESS;
    for level in (0..4).rev() {
        let Some(entry) = read_u64(ram, table + (vaddr >> (12 + 9 * level) & 0x1ff) * 8) else { return false };
        if entry & (PRESENT | USER) != PRESENT | USER {
            return false;
        }
        if entry & LARGE != 0 && level < 3 {
            return true;
        }
        table = entry & ADDRESS;
    }
    true
}

/// Whether the table at `cr3` lacks something that the one at `other` maps. Where the two have
/// entries of different sizes, parts of a large one count, too.
pub fn lacks(ram: &[u8], cr3: u64, other: u64) -> bool {
    let mut seen = std::collections::HashSet::new();
    lacks_at(ram, 3, cr3 & ADDRESS, Some(other & ADDRESS), &mut seen)
}

/// The same of two tables of one level; without `other`, of all that a table has room for.
fn lacks_at(
    ram: &[u8],
    level: u32,
    table: u64,
    other: Option<u64>,
    seen: &mut std::collections::HashSet<(u32, u64, Option<u64>)>,
) -> bool {
    if Some(table) == other || !seen.insert((level, table, other)) {
        return false;
    }
    let leaf = |entry: u64| level == 0 || (entry & LARGE != 0 && level < 3);
    (0..512).any(|i| {
        let entry = |table: u64| read_u64(ram, table + i * 8).filter(|e| e & PRESENT != 0);
        let wanted = match other {
            Some(other) => entry(other),
            None => Some(PRESENT | LARGE),
        };
        let Some(wanted) = wanted else { return false };
        match entry(table) {
            None => true,
            Some(own) if leaf(own) => false,
            Some(own) => {
                let below = (other.is_some() && !leaf(wanted)).then_some(wanted & ADDRESS);
                lacks_at(ram, level - 1, own & ADDRESS, below, seen)
            }
        }
    })
}

/// The little-endian word at guest-physical `paddr`.
pub fn read_u64(ram: &[u8], paddr: u64) -> Option<u64> {
    let at = usize::try_from(paddr).ok()?;
    let bytes = ram.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Writes the page tables that an image is booted with.
pub struct Tables<'a> {
    ram: &'a mut [u8],
    root: u64,
    next: u64,
    end: u64,
}

impl<'a> Tables<'a> {
    /// Empty tables in `[start, end)` of RAM, both page-aligned.
    pub fn new(ram: &'a mut [u8], start: u64, end: u64) -> Self {
        Self { ram, root: start, next: start + 4096, end }
    }

    /// Value for CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps the page at `vaddr` to `paddr`, writable and executable. `None` where
    /// there is no room for another table.
    pub fn map(&mut self, vaddr: u64, paddr: u64) -> Option<()> {
        let mut table = self.root;
        for level in (1..4).rev() {
            let at = table + (vaddr >> (12 + 9 * level) & 0x1ff) * 8;
            let mut entry = read_u64(self.ram, at)?;
            if entry & PRESENT == 0 {
                if self.next >= self.end {
                    return None;
                }
                entry = self.next | PRESENT | WRITE | ACCESSED | DIRTY;
                self.next += 4096;
                self.write(at, entry)?;
            }
            table = entry & ADDRESS;
        }
        self.write(table + (vaddr >> 12 & 0x1ff) * 8, paddr & ADDRESS | PRESENT | WRITE | ACCESSED | DIRTY)
    }

    fn write(&mut self, paddr: u64, value: u64) -> Option<()> {
        let at = usize::try_from(paddr).ok()?;
        self.ram.get_mut(at..at + 8)?.copy_from_slice(&value.to_le_bytes());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_translates_and_nothing_else_does() {
        let mut ram = vec![0u8; 0x10000];
        let mut tables = Tables::new(&mut ram, 0x1000, 0x8000);
        tables.map(0xffff_ffff_8010_0000, 0x9000).unwrap();
        let root = tables.root();
        assert_eq!(translate(&ram, root, 0xffff_ffff_8010_0123), Some(0x9123));
        assert_eq!(translate(&ram, root, 0xffff_ffff_8010_1123), None);
        assert_eq!(translate(&ram, root, 0), None);
        assert!(!is_user(&ram, root, 0xffff_ffff_8010_0123), "the kernel's alone");
    }

    #[test]
    fn tables_stay_in_their_room() {
        let mut ram = vec![0u8; 0x10000];
        let mut tables = Tables::new(&mut ram, 0x1000, 0x3000);
        assert_eq!(tables.map(0x1000, 0x1000), None);
    }

    #[test]
    fn a_table_lacks_what_only_the_other_maps() {
        let mut ram = vec![0; 0x10000];
        let mut put = |at: usize, value: u64| ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
        for (root, large) in [(0x1000, 2), (0x4000, 1)] {
            put(root, (root as u64 + 0x1000) | 7);
            put(root + 0x1000, (root as u64 + 0x2000) | 7);
            (0..large).for_each(|i| put(root + 0x2000 + 8 * i, (i as u64) << 21 | 0x87));
        }
        put(0x7000, 0x2000 | 7); // another root of the first's tables
        put(0x1008, 0x1000 | 7); // a recursive entry
        assert!(lacks(&ram, 0x4000, 0x1000) && !lacks(&ram, 0x1000, 0x4000));
        assert!(!lacks(&ram, 0x1000, 0x7000) && lacks(&ram, 0x7000, 0x1000));
        assert!(!lacks(&ram, 0x1000, 0x1000));
    }
}
