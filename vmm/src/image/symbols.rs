//! Names of addresses, both ways.

use std::collections::BTreeMap;

/// A symbol of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name: in [`Symbols`] as a user writes it, demangled and without a hash.
    pub name: String,
    /// Virtual address.
    pub addr: u64,
    /// Bytes, 0 where the image does not say.
    pub size: u64,
    /// Whether it names code.
    pub code: bool,
}

/// The demangled name, without what separates words in a schedule: `<u32 as Display>::fmt`
/// becomes `<u32_as_Display>::fmt`.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name)).replace([' ', ',', '+', '@', '\'', '"'], "_")
}

/// The symbols of an image, by address and by name.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    sorted: Vec<Symbol>,
    by_name: BTreeMap<String, usize>,
}

impl Symbols {
    /// Takes symbols as a file has them; names are demangled.
    pub fn new(raw: Vec<Symbol>) -> Self {
        let mut sorted: Vec<Symbol> =
            raw.into_iter().filter(|s| !s.name.is_empty()).map(|s| Symbol { name: readable(&s.name), ..s }).collect();
        sorted.sort_by(|a, b| (a.addr, &a.name).cmp(&(b.addr, &b.name)));
        sorted.dedup();
        let mut by_name = BTreeMap::new();
        for (i, s) in sorted.iter().enumerate() {
            by_name.entry(s.name.clone()).or_insert(i);
        }
        Self { sorted, by_name }
    }

    /// These and `own`, whose names win over those here.
    pub fn with(self, own: Vec<Symbol>) -> Self {
        let own = Self::new(own);
        let wins: BTreeMap<String, u64> =
            own.by_name.iter().map(|(name, i)| (name.clone(), own.sorted[*i].addr)).collect();
        let mut sorted: Vec<Symbol> = self.sorted.into_iter().chain(own.sorted).collect();
        sorted.sort_by(|a, b| (a.addr, &a.name).cmp(&(b.addr, &b.name)));
        let mut by_name = BTreeMap::new();
        for (i, s) in sorted.iter().enumerate() {
            if wins.get(&s.name).is_none_or(|addr| *addr == s.addr) {
                by_name.entry(s.name.clone()).or_insert(i);
            }
        }
        Self { sorted, by_name }
    }

    /// The symbol called `name`.
    pub fn get(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name).map(|i| &self.sorted[*i])
    }

    /// All symbols by ascending address.
    pub fn iter(&self) -> impl Iterator<Item = &Symbol> {
        self.sorted.iter()
    }

    /// All names that begin with `prefix`, sorted.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Symbol> {
        self.by_name
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(_, i)| &self.sorted[*i])
    }

    /// The code symbol at or next below `addr`. Of several at one address, one
    /// that begins with `prefix` is preferred, then the first by name.
    pub fn nearest_code(&self, addr: u64, prefix: &str) -> Option<&Symbol> {
        let end = self.sorted.partition_point(|s| s.addr <= addr);
        let best = self.sorted[..end].iter().rev().find(|s| s.code)?;
        let start = self.sorted.partition_point(|s| s.addr < best.addr);
        let same = || self.sorted[start..end].iter().filter(|s| s.addr == best.addr && s.code);
        same().find(|s| !prefix.is_empty() && s.name.starts_with(prefix)).or_else(|| same().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_symbol_prefers_the_schemes_own() {
        let symbol = |name: &str, addr, code| Symbol { name: name.into(), addr, size: 0, code };
        let symbols = Symbols::new(vec![
            symbol("a.first", 0x10, true),
            symbol("b.first", 0x10, true),
            symbol("data", 0x12, false),
        ]);
        assert_eq!(symbols.nearest_code(0x13, "b.").unwrap().name, "b.first");
        assert_eq!(symbols.nearest_code(0x13, "").unwrap().name, "a.first");
        assert!(symbols.nearest_code(0xf, "").is_none());
    }
}
