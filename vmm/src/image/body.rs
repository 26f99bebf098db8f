//! What a manifest declares of the NMI body and of the context that it comes back to.

use std::ops::Range;

use super::resolver::{Error, Resolver, number};
use crate::cpu::{Classes, Msrs};

/// What the NMI body relies on besides what every body does (I21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// RSP at the body-begin hypercall, modulo 16. A function has it at 8 before it has pushed
    /// anything. Without it RSP is not checked: code that is not compiled need not care.
    pub rsp: Option<u8>,
}

impl Body {
    pub(super) fn read(line: &Resolver) -> Result<Self, Error> {
        line.known(&["rsp"])?;
        let rsp = line.list("rsp").next().map(|value| {
            let rsp =
                number(value).filter(|n| *n < 16).ok_or_else(|| line.bad(value, "is not RSP modulo 16 (0 to 15)"))?;
            Ok(rsp as u8)
        });
        Ok(Self { rsp: rsp.transpose()? })
    }
}

/// What the body of one scheme relies on (I21).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relies {
    /// AC, too, is clear.
    pub ac: bool,
    /// No breakpoint is armed (DR7).
    pub dr7: bool,
    /// These model-specific registers have these values.
    pub msrs: Vec<(u32, u64)>,
}

impl Relies {
    pub(super) fn read(line: &Resolver) -> Result<Self, Error> {
        if let Some(other) = line.list("relies").find(|what| !["ac", "dr7"].contains(what)) {
            return Err(line.bad(other, "is nothing that a body can rely on besides (ac, dr7)"));
        }
        let says = |what: &str| line.list("relies").any(|w| w == what);
        let msr = |value: &str| {
            let (index, wanted) = value
                .split_once(':')
                .and_then(|(index, wanted)| Some((u32::try_from(number(index)?).ok()?, number(wanted)?)))
                .ok_or_else(|| line.bad(value, "is not of the form NUMBER:VALUE"))?;
            match Msrs::index(index) {
                Some(_) => Ok((index, wanted)),
                None => Err(line.bad(value, "is a register that the lab does not carry")),
            }
        };
        let msrs = line.list("body_msr").map(msr).collect::<Result<_, _>>()?;
        Ok(Self { ac: says("ac"), dr7: says("dr7"), msrs })
    }
}

/// The lazy state that a scheme or a scenario says its code uses.
pub(super) fn uses(line: &Resolver) -> Result<Option<Classes>, Error> {
    let mut found = None;
    for what in line.list("uses") {
        let classes: &mut Classes = found.get_or_insert_default();
        match what {
            "debug" => classes.debug = true,
            "vector" => classes.vector = true,
            _ => return Err(line.bad(what, "is no class of registers that code can use (debug, vector)")),
        }
    }
    Ok(found)
}

/// The roots of one process's page tables, where those of the kernel and of user code are
/// apart (I11). Physical addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageTables {
    /// Those that a body may run on that interrupts the process.
    pub kernel: Vec<u64>,
    /// Those that its user code runs on, and that lack what is the kernel's.
    pub user: Vec<u64>,
}

impl PageTables {
    /// Reads one line.
    pub(super) fn read(line: &Resolver) -> Result<Self, Error> {
        line.known(&["kernel", "user"])?;
        let mut out = Self::default();
        for (key, list) in [("kernel", &mut out.kernel), ("user", &mut out.user)] {
            for value in line.list(key) {
                let root = if value.starts_with("0x") { number(value) } else { Some(line.addr(value)?) };
                let root = root.filter(|r| r % 4096 == 0).ok_or_else(|| line.bad(value, "is no page's address"))?;
                list.push(root);
            }
        }
        Ok(out)
    }
}

/// A change of the interrupted context that is meant: an NMI that interrupts one of these
/// instructions may go on at another, as restartable sequences and fixups do (I6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumes {
    /// Where it was interrupted.
    pub from: Range<u64>,
    /// Where it may go on.
    pub to: u64,
}

impl Resumes {
    /// `LOW..HIGH@TO`, all three of them places.
    pub(super) fn read(value: &str, line: &Resolver) -> Result<Self, Error> {
        let parts = value.rsplit_once('@').and_then(|(from, to)| Some((from.split_once("..")?, to)));
        let ((low, high), to) = parts.ok_or_else(|| line.bad(value, "is not of the form LOW..HIGH@TO"))?;
        let from = line.addr(low)?..line.addr(high)?;
        match from.is_empty() {
            true => Err(line.bad(value, "is an empty range")),
            false => Ok(Self { from, to: line.addr(to)? }),
        }
    }

    /// Whether it allows what was interrupted at `was` to go on at `is`.
    pub fn allows(&self, was: u64, is: u64) -> bool {
        self.from.contains(&was) && is == self.to
    }
}
