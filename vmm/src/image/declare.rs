//! The manifest's declarations, with their names resolved to addresses.

use std::ops::Range;

use guest::abi;

pub use super::body::{Body, PageTables, Resumes};
use super::manifest::{Line, Mode};
use super::need::Need;
use super::symbols::Symbols;
use super::vectors::vector_number;
pub use super::vectors::{has_error_code, vector_name};

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
        /// The declaration.
        of: String,
        /// The key.
        key: String,
    },
    /// Something needed is missing.
    #[error("manifest: {of} needs {what}")]
    Missing {
        /// The declaration.
        of: String,
        /// What it lacks.
        what: &'static str,
    },
    /// A value that cannot be read.
    #[error("manifest: {of}: {value:?} {why}")]
    Value {
        /// The declaration.
        of: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two declarations of one name.
    #[error("manifest: {0} is declared twice")]
    Twice(String),
}

/// A way to enter and leave an NMI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name on the command line.
    pub name: String,
    /// Who owns the NMI mask.
    pub mode: Mode,
    /// Value for RDI at entry.
    pub arg: u64,
    /// The NMI handler's first instruction, where the image says it.
    pub entry: Option<u64>,
    /// What its labels begin with.
    pub prefix: String,
    /// RIPs that the scheme itself writes into frames.
    pub repeat: Vec<u64>,
    /// Faults that are part of its design: vector, and the instruction that faults.
    pub faults: Vec<(u8, u64)>,
    /// Changes of the interrupted context that are meant.
    pub resumes: Vec<Resumes>,
    /// Its body relies on AC, too, being clear.
    pub relies_on_ac: bool,
    /// Memory that has its at-ready value whenever no NMI is live.
    pub idle: Vec<Range<u64>>,
    /// Its kernel can run user code: every native one, and in mode pv one that says so.
    pub ring3: bool,
    /// The invariant that it breaks on purpose.
    pub broken: Option<String>,
    /// The bug of history that it has or repairs.
    pub gallery: Option<String>,
    /// One line about it.
    pub summary: String,
}

impl Scheme {
    /// Whether it is no candidate, but there to test the oracle or to show a bug.
    pub fn exhibit(&self) -> bool {
        self.broken.is_some() || self.gallery.is_some()
    }
}

/// What the guest does while NMIs arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// Value for RSI at entry.
    pub arg: u64,
    /// The 128 bytes below RSP are in use (the System V red zone).
    pub redzone: bool,
    /// It runs code at CPL3.
    pub ring3: bool,
    /// It is about the CPU's own iret, and makes no sense in mode pv.
    pub native: bool,
    /// What not every host's KVM has, and it cannot be shown without.
    pub needs: Vec<Need>,
    /// Vectors of faults that a return may raise, by what the scenario does.
    pub faults: Vec<u8>,
    /// The #DBs and #GPs that each body takes, in order: vector, and the RIP pushed.
    /// Empty: bodies are not asked.
    pub traps: Vec<(u8, u64)>,
    /// One line about it.
    pub summary: String,
}

/// A declared stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// From its lowest byte to its top; an empty stack's RSP is `end`.
    pub range: Range<u64>,
}

/// Memory that an NMI may change for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Virtual addresses.
    pub range: Range<u64>,
    /// For this scheme only.
    pub scheme: Option<String>,
}

/// Room for an entry that is linked in later (`--entry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// For entries of this mode.
    pub mode: Mode,
    /// The symbol whose value RDI holds at entry, as written.
    pub arg: String,
    /// For code and constants: bytes of an executable segment, in the file.
    pub text: Range<u64>,
    /// For variables that begin as zero.
    pub data: Option<Range<u64>>,
    /// Names that the entry may define, and the words that take their addresses.
    /// The first is that of the NMI handler.
    pub hooks: Vec<(String, u64)>,
}

/// All that a manifest declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarations {
    /// RAM in bytes, a multiple of 4096.
    pub ram: u64,
    /// By name.
    pub schemes: Vec<Scheme>,
    /// By name.
    pub scenarios: Vec<Scenario>,
    /// By address.
    pub stacks: Vec<Stack>,
    /// Where memory is seen again, read-only, for RSP to point into for an iret.
    pub aliases: Vec<Range<u64>>,
    /// By address.
    pub scratch: Vec<Scratch>,
    /// Code that runs in 32-bit code segments.
    pub code32: Vec<Range<u64>>,
    /// One a mode at most.
    pub slots: Vec<Slot>,
    /// The hypercall page: 128 stubs of 32 bytes, through which all PV hypercalls go.
    pub hypercalls: Option<u64>,
    /// What the image's NMI body relies on besides what every body does.
    pub body: Body,
    /// The page tables of an image that keeps the kernel's apart from the user's.
    pub page_tables: PageTables,
}

impl Declarations {
    /// Resolves a parsed manifest against the image's symbols.
    pub fn resolve(lines: &[Line], symbols: &Symbols) -> Result<Self, Error> {
        let mut out = Self {
            ram: abi::DEFAULT_RAM,
            schemes: vec![],
            scenarios: vec![],
            stacks: vec![],
            aliases: vec![],
            code32: vec![],
            scratch: vec![],
            slots: vec![],
            hypercalls: None,
            body: Body::default(),
            page_tables: PageTables::default(),
        };
        let mut version = "none".to_owned();
        for line in lines {
            let r = Resolver { line, symbols };
            match line.keyword.as_str() {
                "abi" => version = r.word("a version")?.to_owned(),
                "ram" => out.ram = r.ram()?,
                "scheme" => out.schemes.push(r.scheme()?),
                "scenario" => out.scenarios.push(r.scenario()?),
                "stack" => out.stacks.push(Stack { name: r.word("a name")?.to_owned(), range: r.range()? }),
                "scratch" => {
                    r.known(&["low", "high", "scheme"])?;
                    out.scratch.push(Scratch { range: r.range()?, scheme: line.pairs.get("scheme").cloned() });
                }
                "alias" | "code32" => {
                    r.known(&["low", "high"])?;
                    if line.keyword == "alias" { &mut out.aliases } else { &mut out.code32 }.push(r.range()?);
                }
                "slot" => out.slots.push(r.slot()?),
                "hypercalls" => {
                    r.known(&["page"])?;
                    if out.hypercalls.replace(r.needed("page")?).is_some() {
                        return Err(Error::Twice("hypercalls".into()));
                    }
                }
                "body" => out.body = Body::read(&r)?,
                "pagetables" => out.page_tables.read(&r)?,
                other => return Err(Error::UnknownKeyword(other.to_owned())),
            }
        }
        if version != abi::ABI_VERSION.to_string() {
            return Err(Error::Version { found: version });
        }
        out.schemes.sort_by(|a, b| a.name.cmp(&b.name));
        out.scenarios.sort_by(|a, b| a.name.cmp(&b.name));
        out.stacks.sort_by_key(|s| s.range.start);
        out.scratch.sort_by_key(|s| s.range.start);
        let twice = |what: &str, names: Vec<&str>| match names.windows(2).find(|w| w[0] == w[1]) {
            Some(w) => Err(Error::Twice(format!("{what} {}", w[0]))),
            None => Ok(()),
        };
        twice("scheme", out.schemes.iter().map(|s| s.name.as_str()).collect())?;
        twice("slot of mode", out.slots.iter().map(|s| s.mode.name()).collect())?;
        twice("scenario", out.scenarios.iter().map(|s| s.name.as_str()).collect())?;
        if out.schemes.is_empty() {
            return Err(Error::Missing { of: "the image".into(), what: "at least one scheme" });
        }
        if out.scenarios.is_empty() {
            return Err(Error::Missing { of: "the image".into(), what: "at least one scenario" });
        }
        Ok(out)
    }
}

/// Reads the values of one line.
pub(super) struct Resolver<'a> {
    pub(super) line: &'a Line,
    symbols: &'a Symbols,
}

impl Resolver<'_> {
    fn of(&self) -> String {
        let name = self.line.words.first().map(|w| format!(" {w}")).unwrap_or_default();
        format!("{}{name}", self.line.keyword)
    }

    fn word(&self, what: &'static str) -> Result<&str, Error> {
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

    fn text(&self, key: &str) -> String {
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

    fn needed(&self, key: &'static str) -> Result<u64, Error> {
        let value = self.line.pairs.get(key).ok_or(Error::Missing { of: self.of(), what: key })?;
        self.addr(value)
    }

    /// A comma-separated list.
    pub(super) fn list<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.line.pairs.get(key).map(String::as_str).unwrap_or("").split(',').filter(|s| !s.is_empty())
    }

    fn range(&self) -> Result<Range<u64>, Error> {
        self.range_of("low", "high")
    }

    fn range_of(&self, from: &'static str, to: &'static str) -> Result<Range<u64>, Error> {
        let (low, high) = (self.needed(from)?, self.needed(to)?);
        if low >= high {
            return Err(self.bad(&self.text(to), "is not above the low end"));
        }
        Ok(low..high)
    }

    fn ram(&self) -> Result<u64, Error> {
        let word = self.word("a number of bytes")?;
        let bytes = number(word).ok_or_else(|| self.bad(word, "is no number"))?;
        if bytes % 4096 != 0 || !(2 * abi::IMAGE_MIN_PADDR..=64 << 20).contains(&bytes) {
            return Err(self.bad(word, "is not a multiple of 4096 between 2 MiB and 64 MiB"));
        }
        Ok(bytes)
    }

    fn scheme(&self) -> Result<Scheme, Error> {
        self.known(&[
            "mode", "arg", "entry", "prefix", "repeat", "resumes", "relies", "faults", "idle", "broken", "gallery",
            "summary",
        ])?;
        let name = self.word("a name")?.to_owned();
        let mode = self.mode()?;
        let flags = self.line.words.get(1..).unwrap_or_default();
        if let Some(other) = flags.iter().find(|w| *w != "ring3") {
            return Err(self.bad(other, "is not a scheme flag (ring3)"));
        }
        let entry = match self.line.pairs.get("entry") {
            Some(value) => Some(self.addr(value)?),
            None => None,
        };
        Ok(Scheme {
            prefix: self.line.pairs.get("prefix").cloned().unwrap_or_default(),
            arg: self.needed("arg")?,
            repeat: self.list("repeat").map(|v| self.addr(v)).collect::<Result<_, _>>()?,
            faults: self.list("faults").map(|v| self.fault(v)).collect::<Result<_, _>>()?,
            resumes: self.list("resumes").map(|v| Resumes::read(v, self)).collect::<Result<_, _>>()?,
            relies_on_ac: self.relies_on_ac()?,
            idle: self.list("idle").map(|v| self.sized(v)).collect::<Result<_, _>>()?,
            ring3: mode == Mode::Native || !flags.is_empty(),
            broken: self.line.pairs.get("broken").cloned(),
            gallery: self.line.pairs.get("gallery").cloned(),
            summary: self.text("summary"),
            name,
            mode,
            entry,
        })
    }

    fn relies_on_ac(&self) -> Result<bool, Error> {
        match self.list("relies").find(|what| *what != "ac") {
            Some(other) => Err(self.bad(other, "is nothing that a body can rely on besides (ac)")),
            None => Ok(self.list("relies").next().is_some()),
        }
    }

    fn mode(&self) -> Result<Mode, Error> {
        match self.text("mode").as_str() {
            "native" | "" => Ok(Mode::Native),
            "pv" => Ok(Mode::Pv),
            other => Err(self.bad(other, "is not a mode (native, pv)")),
        }
    }

    fn slot(&self) -> Result<Slot, Error> {
        self.known(&["mode", "arg", "low", "high", "data_low", "data_high", "hooks"])?;
        self.needed("arg")?;
        let hook = |v: &str| {
            let (name, at) = v.split_once('@').ok_or_else(|| self.bad(v, "is not of the form NAME@SYMBOL"))?;
            Ok((name.to_owned(), self.addr(at)?))
        };
        let hooks: Vec<_> = self.list("hooks").map(hook).collect::<Result<_, _>>()?;
        if hooks.is_empty() {
            return Err(Error::Missing { of: self.of(), what: "hooks, the NMI handler's first" });
        }
        let data = match self.line.pairs.contains_key("data_low") {
            true => Some(self.range_of("data_low", "data_high")?),
            false => None,
        };
        Ok(Slot { mode: self.mode()?, arg: self.text("arg"), text: self.range()?, data, hooks })
    }

    /// `gp@SYMBOL`: a vector's mnemonic and the instruction that raises it.
    fn fault(&self, value: &str) -> Result<(u8, u64), Error> {
        let (vector, at) = value.split_once('@').ok_or_else(|| self.bad(value, "is not of the form gp@SYMBOL"))?;
        let vector =
            vector_number(vector).ok_or_else(|| self.bad(value, "names no exception (de, db, ud, gp, pf, …)"))?;
        Ok((vector, self.addr(at)?))
    }

    /// `SYMBOL[+0xOFF][:BYTES]`; without BYTES the symbol's size, or 8.
    fn sized(&self, value: &str) -> Result<Range<u64>, Error> {
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

    fn scenario(&self) -> Result<Scenario, Error> {
        self.known(&["arg", "faults", "needs", "traps", "summary"])?;
        let need =
            |name: &str| Need::of(name).ok_or_else(|| self.bad(name, "is nothing that a scenario can need (ldt-ss16)"));
        let vector = |name: &str| {
            vector_number(name).ok_or_else(|| self.bad(name, "names no exception (de, db, ud, gp, pf, …)"))
        };
        let flag = |name: &str| self.line.words.iter().skip(1).any(|w| w == name);
        if let Some(other) =
            self.line.words.iter().skip(1).find(|w| !["redzone", "ring3", "native"].contains(&w.as_str()))
        {
            return Err(self.bad(other, "is not a scenario flag (redzone, ring3, native)"));
        }
        Ok(Scenario {
            name: self.word("a name")?.to_owned(),
            arg: self.needed("arg")?,
            redzone: flag("redzone"),
            ring3: flag("ring3"),
            native: flag("native"),
            needs: self.list("needs").map(need).collect::<Result<_, _>>()?,
            faults: self.list("faults").map(vector).collect::<Result<_, _>>()?,
            traps: self.list("traps").map(|v| self.fault(v)).collect::<Result<_, _>>()?,
            summary: self.text("summary"),
        })
    }
}

/// A decimal or 0x-hexadecimal number.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
