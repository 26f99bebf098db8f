//! A kernel's symbols: from an ELF, a System.map, or a table that the kernel knows of.

use std::collections::BTreeMap;
use std::ops::Range;

use object::{Object, ObjectSymbol};

use super::Error;

/// Where the kernel's image is mapped: `__START_KERNEL_map`.
pub const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// Names of addresses, both ways.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct KernelSymbols {
    by_addr: BTreeMap<u64, Vec<String>>,
    by_name: BTreeMap<String, u64>,
    /// Where they come from, in words.
    pub source: String,
    placed: Placed,
}

/// Where a kernel's image is.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Placed {
    /// No address below is the image's; symbols there are numbers.
    lowest: u64,
    /// How far above its physical address each byte of the image is mapped.
    offset: u64,
    /// Its code, where the kernel's own symbols do not say.
    text: Vec<Range<u64>>,
}

impl Default for Placed {
    /// Linux's.
    fn default() -> Self {
        Self { lowest: KERNEL_MAP, offset: KERNEL_MAP, text: Vec::new() }
    }
}

impl KernelSymbols {
    /// Symbols from a file that the user names: a System.map or an ELF.
    pub fn of_file(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.starts_with(b"\x7fELF") {
            return Self::of_elf(bytes).ok_or_else(|| Error::Symbols("the ELF file is stripped".into()));
        }
        let text = String::from_utf8_lossy(bytes);
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let addr = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?.chars().next()?;
            Some((words.next()?.to_owned(), addr, kind))
        };
        let found: Vec<_> = text.lines().filter_map(parse).collect();
        if found.len() < 100 {
            return Err(Error::Symbols(
                "this is no System.map (lines of address, type and name); distributions ship a stub of it, \
                 whereas kallsyms in the image needs no file"
                    .into(),
            ));
        }
        Ok(Self::new(found, "System.map".into()))
    }

    /// Symbols of an ELF file; `None` where it is stripped.
    pub fn of_elf(elf: &[u8]) -> Option<Self> {
        Self::of_table(elf).filter(|symbols| symbols.len() > 100)
    }

    /// The same, however few there are.
    pub fn of_table(elf: &[u8]) -> Option<Self> {
        let file = object::File::parse(elf).ok()?;
        let found: Vec<_> = file
            .symbols()
            .filter(|s| {
                !s.is_undefined() && !matches!(s.kind(), object::SymbolKind::File | object::SymbolKind::Section)
            })
            .filter_map(|s| {
                let kind = if s.kind() == object::SymbolKind::Data { 'd' } else { 't' };
                Some((s.name().ok()?.to_owned(), s.address(), kind))
            })
            .collect();
        (!found.is_empty()).then(|| Self::new(found, "the ELF's symbol table".into()))
    }

    /// Symbols as a table has them: name, address, and the letter that `nm` gives.
    pub fn new(found: Vec<(String, u64, char)>, source: String) -> Self {
        let mut out = Self { source, ..Self::default() };
        for (name, addr, kind) in found {
            // Names the tool chain made up, not the kernel's authors.
            if name.is_empty() || matches!(kind, 'U' | 'N') || name.starts_with(".L") || name.starts_with("__pfx_") {
                continue;
            }
            out.by_addr.entry(addr).or_default().push(name.clone());
            out.by_name.entry(name).or_insert(addr);
        }
        out
    }

    /// The same symbols, of an image that is mapped from `lowest` up, `offset` above its physical
    /// addresses, with its code in `text`.
    pub fn placed(mut self, lowest: u64, offset: u64, text: Vec<Range<u64>>) -> Self {
        self.placed = Placed { lowest, offset, text };
        self
    }

    /// Gives an address a name.
    pub fn name(&mut self, name: &str, addr: u64) {
        self.by_addr.entry(addr).or_default().push(name.to_owned());
        self.by_name.insert(name.to_owned(), addr);
    }

    /// The kernel has moved to other physical addresses.
    pub fn set_offset(&mut self, offset: u64) {
        self.placed.offset = offset;
    }

    /// More symbols, and more code: of what runs on the kernel. A name that is there already has `mark`
    /// before it.
    pub fn add(&mut self, more: &KernelSymbols, mark: &str, text: &[Range<u64>]) {
        for (addr, name) in more.all() {
            let taken = self.by_name.get(name).is_some_and(|known| *known != addr);
            let name = if taken { format!("{mark}{name}") } else { name.to_owned() };
            self.by_addr.entry(addr).or_default().push(name.clone());
            self.by_name.entry(name).or_insert(addr);
        }
        self.placed.lowest = text.iter().map(|text| text.start).fold(self.placed.lowest, u64::min);
        self.placed.text.extend(text.iter().cloned());
    }

    /// No address below is the image's, nor that of what runs on the kernel.
    pub fn lowest(&self) -> u64 {
        self.placed.lowest
    }

    /// Where code is.
    pub fn text(&self) -> Vec<Range<u64>> {
        let own = self.get("_stext").zip(self.get("_etext")).map(|(start, end)| start..end);
        own.into_iter().chain(self.placed.text.iter().cloned()).collect()
    }

    /// Whether an address is in code.
    pub fn in_text(&self, addr: u64) -> bool {
        self.text().iter().any(|text| text.contains(&addr))
    }

    /// The physical address of one of the image's, before there are page tables to say it.
    pub fn loaded_at(&self, addr: u64) -> Option<u64> {
        addr.checked_sub(self.placed.offset)
    }

    /// What lies at a physical address, if it is the image's.
    pub fn show_physical(&self, at: u64) -> String {
        self.show(self.placed.offset.wrapping_add(at))
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All of them, by ascending address.
    pub fn all(&self) -> impl Iterator<Item = (u64, &str)> {
        self.by_addr.iter().flat_map(|(addr, names)| names.iter().map(|name| (*addr, name.as_str())))
    }

    /// The address of `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// The address of the first of `names` that there is.
    pub fn any(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|n| self.get(n))
    }

    /// `label+0xoff` for an address in the kernel's image; names of the NMI's path are
    /// preferred where several share an address.
    pub fn show(&self, addr: u64) -> String {
        if addr < self.placed.lowest {
            return format!("{addr:#x}");
        }
        let Some((at, names)) = self.by_addr.range(..=addr).next_back().filter(|(at, _)| addr - **at < 0x10_0000)
        else {
            return format!("{addr:#x}");
        };
        let name = names.iter().find(|n| n.contains("nmi")).or_else(|| names.first()).map_or("", String::as_str);
        match addr - at {
            0 => name.to_owned(),
            offset => format!("{name}+{offset:#x}"),
        }
    }

    /// The first address above `addr` that has a name.
    pub fn next_after(&self, addr: u64) -> Option<u64> {
        self.by_addr.range(addr + 1..).next().map(|(a, _)| *a)
    }

    /// The code of function `name`, and of the parts that the compiler split from it, as
    /// `name.cold`.
    pub fn parts(&self, name: &str) -> Vec<std::ops::Range<u64>> {
        let same = |n: &str| n.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let found = self.by_name.range(name.to_owned()..).take_while(|(n, _)| n.starts_with(name));
        let found = found.filter(|(n, _)| same(n));
        found.map(|(_, addr)| *addr..self.next_after(*addr).unwrap_or(*addr)).collect()
    }

    /// The last address up to `addr` that has a name.
    pub fn at_or_before(&self, addr: u64) -> Option<u64> {
        self.by_addr.range(..=addr).next_back().map(|(a, _)| *a)
    }

    /// Names that contain `part`, else names that look like it; at most a handful, for
    /// a message.
    pub fn like(&self, part: &str) -> Vec<String> {
        let contain: Vec<String> = self.by_name.keys().filter(|n| n.contains(part)).take(8).cloned().collect();
        if !contain.is_empty() {
            return contain;
        }
        let mut alike: Vec<_> = self.by_name.keys().map(|n| (strsim::jaro_winkler(n, part), n)).collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        alike.into_iter().take_while(|(how, _)| *how > 0.85).take(4).map(|(_, n)| n.clone()).collect()
    }
}
