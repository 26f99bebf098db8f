//! The manifest's declarations, with their names resolved to addresses.

use std::ops::Range;

use guest::abi;

use super::body::{Body, PageTables, Relies, Resumes, uses};
use super::manifest::{Line, Mode};
use super::need::Need;
use super::resolver::{Error, Resolver};
use super::symbols::Symbols;
use super::vectors::{Trap, vector_number};
use crate::cpu::Classes;

/// The flag of a scheme that FRED enters, and of the slot for such entries.
pub(super) const FRED: &str = "fred";

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
    /// Faults that are part of its design.
    pub faults: Vec<Trap>,
    /// Changes of the interrupted context that are meant.
    pub resumes: Vec<Resumes>,
    /// What its body relies on besides what every body does.
    pub relies: Relies,
    /// The lazy state that its code uses.
    pub uses: Option<Classes>,
    /// Memory that has its at-ready value whenever no NMI is live.
    pub idle: Vec<Range<u64>>,
    /// Its kernel can run user code: every native one, and in mode pv one that says so.
    pub ring3: bool,
    /// Its entry is right where user code has page tables of its own (KPTI).
    pub kpti: bool,
    /// The invariant that it breaks on purpose.
    pub broken: Option<String>,
    /// The bug of history that it has or repairs.
    pub gallery: Option<String>,
    /// One line about it.
    pub summary: String,
}

impl Scheme {
    fn read(line: &Resolver) -> Result<Self, Error> {
        line.known(&[
            "mode", "arg", "entry", "prefix", "repeat", "resumes", "relies", "body_msr", "uses", "faults", "idle",
            "broken", "gallery", "summary",
        ])?;
        let name = line.word("a name")?.to_owned();
        let mode = line.mode()?;
        let flags = line.line.words.get(1..).unwrap_or_default();
        if let Some(other) = flags.iter().find(|w| !["ring3", "kpti", "fred"].contains(&w.as_str())) {
            return Err(line.bad(other, "is not a scheme flag (ring3, kpti, fred)"));
        }
        let flag = |name: &str| flags.iter().any(|w| w == name);
        let entry = match line.line.pairs.get("entry") {
            Some(value) => Some(line.addr(value)?),
            None => None,
        };
        Ok(Self {
            prefix: line.line.pairs.get("prefix").cloned().unwrap_or_default(),
            arg: line.needed("arg")?,
            repeat: line.list("repeat").map(|v| line.addr(v)).collect::<Result<_, _>>()?,
            faults: line.list("faults").map(|v| line.fault(v)).collect::<Result<_, _>>()?,
            resumes: line.list("resumes").map(|v| Resumes::read(v, line)).collect::<Result<_, _>>()?,
            relies: Relies::read(line)?,
            uses: uses(line)?,
            idle: line.list("idle").map(|v| line.sized(v)).collect::<Result<_, _>>()?,
            ring3: mode == Mode::Native || flag("ring3"),
            kpti: flag("kpti"),
            broken: line.line.pairs.get("broken").cloned(),
            gallery: line.line.pairs.get("gallery").cloned(),
            summary: line.text("summary"),
            name,
            mode,
            entry,
        })
    }

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
    /// User code has page tables of its own in it (KPTI).
    pub kpti: bool,
    /// A #DB may come anywhere in it (`db@`): its handler takes one that nothing raised for a
    /// breakpoint's.
    pub breakpoints: bool,
    /// What not every host's KVM has, and it cannot be shown without.
    pub needs: Vec<Need>,
    /// The lazy state that its code uses.
    pub uses: Option<Classes>,
    /// Vectors of faults that a return may raise, by what the scenario does.
    pub faults: Vec<u8>,
    /// HLTs at which it waits for an event.
    pub halts: Vec<u64>,
    /// The #DBs and #GPs that each body takes, in order. Empty: bodies are not asked.
    pub traps: Vec<Trap>,
    /// One line about it.
    pub summary: String,
}

impl Scenario {
    fn read(line: &Resolver) -> Result<Self, Error> {
        line.known(&["arg", "faults", "halts", "needs", "traps", "uses", "summary"])?;
        let need =
            |name: &str| Need::of(name).ok_or_else(|| line.bad(name, "is nothing that a scenario can need (ldt-ss16)"));
        let vector = |name: &str| {
            vector_number(name).ok_or_else(|| line.bad(name, "names no exception (de, db, ud, gp, pf, …)"))
        };
        let flag = |name: &str| line.line.words.iter().skip(1).any(|w| w == name);
        const FLAGS: [&str; 5] = ["redzone", "ring3", "native", "kpti", "breakpoints"];
        if let Some(other) = line.line.words.iter().skip(1).find(|w| !FLAGS.contains(&w.as_str())) {
            return Err(line.bad(other, "is not a scenario flag (redzone, ring3, native, kpti, breakpoints)"));
        }
        Ok(Self {
            name: line.word("a name")?.to_owned(),
            arg: line.needed("arg")?,
            redzone: flag("redzone"),
            ring3: flag("ring3"),
            native: flag("native"),
            kpti: flag("kpti"),
            breakpoints: flag("breakpoints"),
            needs: line.list("needs").map(need).collect::<Result<_, _>>()?,
            uses: uses(line)?,
            faults: line.list("faults").map(vector).collect::<Result<_, _>>()?,
            halts: line.list("halts").map(|v| line.addr(v)).collect::<Result<_, _>>()?,
            traps: line.list("traps").map(|v| line.fault(v)).collect::<Result<_, _>>()?,
            summary: line.text("summary"),
        })
    }
}

/// A declared stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name, by which others refer to it.
    pub name: String,
    /// From its lowest byte to its top; an empty stack's RSP is `end`.
    pub range: Range<u64>,
    /// Its part that is empty while user code runs, and at a scenario's end: what a from-user path
    /// uses.
    pub in_user: Range<u64>,
}

impl Stack {
    fn read(line: &Resolver) -> Result<Self, Error> {
        let range = line.range()?;
        let top = match line.line.pairs.get("user") {
            Some(value) => line.addr(value)?,
            None => range.start,
        };
        if !(range.start..=range.end).contains(&top) {
            return Err(line.bad("user=", "is no place of the stack"));
        }
        Ok(Self { name: line.word("a name")?.to_owned(), in_user: range.start..top, range })
    }
}

/// Memory that an NMI may change for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Virtual addresses.
    pub range: Range<u64>,
    /// For this scheme only.
    pub scheme: Option<String>,
}

/// A name that an entry which is linked in may define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The name.
    pub name: String,
    /// The word of the image that takes its address.
    pub word: u64,
}

/// Room for an entry that is linked in later (`--entry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// For entries of this mode.
    pub mode: Mode,
    /// For those that FRED enters.
    pub fred: bool,
    /// The symbol whose value RDI holds at entry, as written.
    pub arg: String,
    /// For code and constants: bytes of an executable segment, in the file.
    pub text: Range<u64>,
    /// For variables that begin as zero.
    pub data: Option<Range<u64>>,
    /// Names that the entry may define. The first is that of the NMI handler.
    pub hooks: Vec<Hook>,
}

impl Slot {
    fn read(line: &Resolver) -> Result<Self, Error> {
        line.known(&["mode", "arg", "low", "high", "data_low", "data_high", "hooks"])?;
        line.needed("arg")?;
        let hook = |v: &str| {
            let (name, at) = v.split_once('@').ok_or_else(|| line.bad(v, "is not of the form NAME@SYMBOL"))?;
            Ok(Hook { name: name.to_owned(), word: line.addr(at)? })
        };
        let hooks: Vec<_> = line.list("hooks").map(hook).collect::<Result<_, _>>()?;
        if hooks.is_empty() {
            return Err(Error::Missing { of: line.of(), what: "hooks, the NMI handler's first" });
        }
        let data = match line.line.pairs.contains_key("data_low") {
            true => Some(line.range_of("data_low", "data_high")?),
            false => None,
        };
        let fred = line.line.words.iter().skip(1).any(|w| w == FRED);
        Ok(Self { mode: line.mode()?, fred, arg: line.text("arg"), text: line.range()?, data, hooks })
    }
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
    /// One a mode at most, and one for FRED.
    pub slots: Vec<Slot>,
    /// The hypercall page: 128 stubs of 32 bytes, through which all PV hypercalls go.
    pub hypercalls: Option<u64>,
    /// What the image's NMI body relies on besides what every body does.
    pub body: Body,
    /// The page tables of an image that keeps the kernel's apart from the user's, by process.
    pub page_tables: Vec<PageTables>,
}

impl Declarations {
    /// The lazy state that a run of `scheme` in `scenario` may touch; `None` where the image declares
    /// nothing about that, and its code says.
    pub fn uses(&self, scheme: &Scheme, scenario: &Scenario) -> Option<Classes> {
        let declares = self.schemes.iter().any(|s| s.uses.is_some()) || self.scenarios.iter().any(|s| s.uses.is_some());
        declares.then(|| scheme.uses.unwrap_or_default().or(scenario.uses.unwrap_or_default()))
    }

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
            page_tables: vec![],
        };
        let mut version = "none".to_owned();
        for line in lines {
            let r = Resolver { line, symbols };
            match line.keyword.as_str() {
                "abi" => version = r.word("a version")?.to_owned(),
                "ram" => out.ram = r.ram()?,
                "scheme" => out.schemes.push(Scheme::read(&r)?),
                "scenario" => out.scenarios.push(Scenario::read(&r)?),
                "stack" => out.stacks.push(Stack::read(&r)?),
                "scratch" => {
                    r.known(&["low", "high", "scheme"])?;
                    out.scratch.push(Scratch { range: r.range()?, scheme: line.pairs.get("scheme").cloned() });
                }
                "alias" | "code32" => {
                    r.known(&["low", "high"])?;
                    if line.keyword == "alias" { &mut out.aliases } else { &mut out.code32 }.push(r.range()?);
                }
                "slot" => out.slots.push(Slot::read(&r)?),
                "hypercalls" => {
                    r.known(&["page"])?;
                    if out.hypercalls.replace(r.needed("page")?).is_some() {
                        return Err(Error::Twice("hypercalls".into()));
                    }
                }
                "body" => out.body = Body::read(&r)?,
                "pagetables" => out.page_tables.push(PageTables::read(&r)?),
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
        let mut kinds: Vec<_> = out.slots.iter().map(|s| if s.fred { FRED } else { s.mode.name() }).collect();
        kinds.sort_unstable();
        twice("slot of mode", kinds)?;
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
