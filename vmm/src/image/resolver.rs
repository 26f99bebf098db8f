//! Reading the values of one declaration: names are resolved to addresses, and what cannot be
//! read is an error that says where it stands.

use std::ops::Range;

use guest::abi;

use super::manifest::{Line, Mode};
use super::symbols::Symbols;
use super::vectors::{Trap, vector_number};

/// A declaration that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The `abi` line is missing or names another version.
    #[error("the manifest is for contract version {found}; this program speaks version {}", abi::ABI_VERSION)]
    Version {
        /// What it says.
        found: String,
    },
    /// An unknown keyword.
    #[error(
        "manifest: unknown declaration {0:?} (known: abi, ram, scheme, scenario, stack, alias, scratch, code32, slot, \
         hypercalls, body, pagetables)"
    )]
    UnknownKeyword(String),
    /// An unknown key.
    #[error("manifest: {of}: unknown key {key:?}")]
    UnknownKey {
        /// The declaration: its keyword and its name.
        of: String,
        /// The key, as the manifest writes it.
        key: String,
    },
    /// Something needed is missing.
    #[error("manifest: {of} needs {what}")]
    Missing {
        /// The declaration: its keyword and its name.
        of: String,
        /// What it lacks.
        what: &'static str,
    },
    /// A value that cannot be read.
    #[error("manifest: {of}: {value:?} {why}")]
    Value {
        /// The declaration: its keyword and its name.
        of: String,
        /// The value, as the manifest writes it.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two declarations of one name.
    #[error("manifest: {0} is declared twice")]
    Twice(String),
}

/// Reads the values of one line.
pub(super) struct Resolver<'a> {
    pub(super) line: &'a Line,
    pub(super) symbols: &'a Symbols,
}

impl Resolver<'_> {
    /// The declaration, as errors call it.
    pub(super) fn of(&self) -> String {
        let name = self.line.words.first().map(|w| format!(" {w}")).unwrap_or_default();
        format!("{}{name}", self.line.keyword)
    }

    /// The first word after the keyword; `what` says in the error what it should be.
    pub(super) fn word(&self, what: &'static str) -> Result<&str, Error> {
        self.line.words.first().map(String::as_str).ok_or(Error::Missing { of: self.of(), what })
    }

    pub(super) fn known(&self, keys: &[&str]) -> Result<(), Error> {
        match self.line.pairs.keys().find(|k| !keys.contains(&k.as_str())) {
            Some(key) => Err(Error::UnknownKey { of: self.of(), key: key.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn bad(&self, value: &str, why: &'static str) -> Error {
        Error::Value { of: self.of(), value: value.to_owned(), why }
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.line.pairs.get(key).cloned().unwrap_or_default()
    }

    /// The address that `SYMBOL` or `SYMBOL+0xOFF` stands for.
    pub(super) fn addr(&self, value: &str) -> Result<u64, Error> {
        let (name, offset) = match value.split_once('+') {
            Some((name, off)) => (name, number(off).ok_or_else(|| self.bad(value, "has an offset that is no number"))?),
            None => (value, 0),
        };
        let symbol = self.symbols.get(name).ok_or_else(|| {
            let stripped = self.symbols.iter().next().is_none();
            self.bad(
                value,
                if stripped {
                    "is no symbol: the image has none (do not strip it)"
                } else {
                    "is not a symbol of the image"
                },
            )
        })?;
        symbol.addr.checked_add(offset).ok_or_else(|| self.bad(value, "lies beyond the address space"))
    }

    pub(super) fn needed(&self, key: &'static str) -> Result<u64, Error> {
        let value = self.line.pairs.get(key).ok_or(Error::Missing { of: self.of(), what: key })?;
        self.addr(value)
    }

    /// A comma-separated list.
    pub(super) fn list<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.line.pairs.get(key).map(String::as_str).unwrap_or("").split(',').filter(|s| !s.is_empty())
    }

    pub(super) fn range(&self) -> Result<Range<u64>, Error> {
        self.range_of("low", "high")
    }

    pub(super) fn range_of(&self, from: &'static str, to: &'static str) -> Result<Range<u64>, Error> {
        let (low, high) = (self.needed(from)?, self.needed(to)?);
        if low >= high {
            return Err(self.bad(&self.text(to), "is not above the low end"));
        }
        Ok(low..high)
    }

    pub(super) fn ram(&self) -> Result<u64, Error> {
        let word = self.word("a number of bytes")?;
        let bytes = number(word).ok_or_else(|| self.bad(word, "is no number"))?;
        if bytes % 4096 != 0 || !(2 * abi::IMAGE_MIN_PADDR..=64 << 20).contains(&bytes) {
            return Err(self.bad(word, "is not a multiple of 4096 between 2 MiB and 64 MiB"));
        }
        Ok(bytes)
    }

    pub(super) fn mode(&self) -> Result<Mode, Error> {
        match self.text("mode").as_str() {
            "native" | "" => Ok(Mode::Native),
            "pv" => Ok(Mode::Pv),
            other => Err(self.bad(other, "is not a mode (native, pv)")),
        }
    }

    /// `gp@SYMBOL`: a vector's mnemonic and the instruction that raises it.
    pub(super) fn fault(&self, value: &str) -> Result<Trap, Error> {
        let (vector, at) = value.split_once('@').ok_or_else(|| self.bad(value, "is not of the form gp@SYMBOL"))?;
        let vector =
            vector_number(vector).ok_or_else(|| self.bad(value, "names no exception (de, db, ud, gp, pf, …)"))?;
        Ok(Trap { vector, rip: self.addr(at)? })
    }

    /// `SYMBOL[+0xOFF][:BYTES]`; without BYTES the symbol's size, or 8.
    pub(super) fn sized(&self, value: &str) -> Result<Range<u64>, Error> {
        let (place, size) = match value.split_once(':') {
            Some((place, n)) => {
                (place, Some(number(n).ok_or_else(|| self.bad(value, "has a size that is no number"))?))
            }
            None => (value, None),
        };
        let start = self.addr(place)?;
        let size = size.or_else(|| self.symbols.get(place).map(|s| s.size).filter(|s| *s > 0)).unwrap_or(8);
        if size > 4096 {
            return Err(self.bad(value, "is larger than a page"));
        }
        Ok(start..start.saturating_add(size))
    }
}

/// A decimal or 0x-hexadecimal number.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
