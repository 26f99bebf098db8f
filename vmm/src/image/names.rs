//! Addresses as users write and read them: `exit_iret`, `exit_iret+0x4`,
//! `mainline:repeat`, `0xffffffff80101234`.

use super::Guest;
use super::vectors::{Trap, vector_name};

/// A place that cannot be resolved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// No such label.
    #[error("no label {name:?} in this scheme or image{}", near(.known))]
    Unknown {
        /// The name, as it was given.
        name: String,
        /// Names that would fit.
        known: Vec<String>,
    },
    /// An offset or address that is no number.
    #[error("{0:?} is no number (write 0x1f or 31)")]
    Number(String),
    /// Not in executable code, or not where an instruction begins.
    #[error("{place} is not where an instruction of the image begins{hint}")]
    NotABoundary {
        /// The place, as it was given.
        place: String,
        /// The boundaries around it.
        hint: String,
    },
}

fn near(known: &[String]) -> String {
    match known {
        [] => String::new(),
        names => format!("; there are: {}", names.join(", ")),
    }
}

/// The names of one image, seen from one scheme.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    guest: &'a Guest,
    prefix: &'a str,
}

impl<'a> Names<'a> {
    /// `prefix` is what the scheme's labels begin with, as declared.
    pub fn new(guest: &'a Guest, prefix: &'a str) -> Self {
        Self { guest, prefix }
    }

    /// `label+0xoff` for an address in code.
    pub fn show(&self, addr: u64) -> String {
        if !self.guest.image.is_code(addr) {
            return format!("{addr:#x}");
        }
        self.relative(addr, self.guest.image.symbols.nearest_code(addr, self.prefix))
    }

    /// The same for an address in data.
    pub fn show_data(&self, addr: u64) -> String {
        let symbols = &self.guest.image.symbols;
        self.relative(addr, symbols.iter().take_while(|s| s.addr <= addr).last())
    }

    fn relative(&self, addr: u64, symbol: Option<&super::symbols::Symbol>) -> String {
        let Some(symbol) = symbol.filter(|s| addr - s.addr < 0x10000) else { return format!("{addr:#x}") };
        let own = symbol.name.strip_prefix(self.prefix).filter(|rest| !rest.is_empty() && !self.prefix.is_empty());
        let name = own.unwrap_or(&symbol.name);
        match addr - symbol.addr {
            0 => name.to_owned(),
            offset => format!("{name}+{offset:#x}"),
        }
    }

    /// The label that `addr` belongs to, without an offset.
    pub fn label(&self, addr: u64) -> String {
        let shown = self.show(addr);
        shown.split_once('+').map_or(shown.clone(), |(label, _)| label.to_owned())
    }

    /// The address that `place` names; it must be where an instruction begins.
    pub fn resolve(&self, place: &str) -> Result<u64, PlaceError> {
        let number = |text: &str| {
            let hex = text.strip_prefix("0x").map(|h| u64::from_str_radix(h, 16));
            hex.unwrap_or_else(|| text.parse()).map_err(|_| PlaceError::Number(text.to_owned()))
        };
        let addr = if place.starts_with(|c: char| c.is_ascii_digit()) {
            number(place)?
        } else {
            // A Rust name may hold a `+` only before the offset.
            let (name, offset) = match place.rsplit_once('+') {
                Some((name, offset)) => (name, number(offset)?),
                None => (place, 0),
            };
            self.symbol(name)?.wrapping_add(offset)
        };
        if self.guest.code.at(addr).is_none() {
            return Err(PlaceError::NotABoundary { place: place.to_owned(), hint: self.around(addr) });
        }
        Ok(addr)
    }

    fn symbol(&self, name: &str) -> Result<u64, PlaceError> {
        let symbols = &self.guest.image.symbols;
        let own = format!("{}{name}", self.prefix);
        if let Some(s) = symbols.get(&own).or_else(|| symbols.get(name)).filter(|s| s.code) {
            return Ok(s.addr);
        }
        // `scheme:label`, for a label of another scheme.
        if let Some((scheme, label)) = name.split_once(':').filter(|(_, l)| !l.starts_with(':')) {
            let scheme = self.guest.image.declared.schemes.iter().find(|s| s.name == scheme);
            if let Some(s) = scheme.and_then(|s| symbols.get(&format!("{}{label}", s.prefix))) {
                return Ok(s.addr);
            }
        }
        let known = symbols.with_prefix(self.prefix).filter(|s| s.code && !self.prefix.is_empty());
        let known = known.filter_map(|s| s.name.strip_prefix(self.prefix)).map(str::to_owned).collect();
        Err(PlaceError::Unknown { name: name.to_owned(), known })
    }

    fn around(&self, addr: u64) -> String {
        let before = (1..16).map(|d| addr.wrapping_sub(d)).find(|a| self.guest.code.at(*a).is_some());
        let after = (1..16).map(|d| addr.wrapping_add(d)).find(|a| self.guest.code.at(*a).is_some());
        match (before, after) {
            (Some(b), Some(a)) => format!("; next to it are {} and {}", self.show(b), self.show(a)),
            _ => String::new(),
        }
    }
}

impl Trap {
    /// `#GP at exit_iret`.
    pub fn show(&self, names: &Names) -> String {
        format!("{} at {}", vector_name(self.vector), names.show(self.rip))
    }
}
