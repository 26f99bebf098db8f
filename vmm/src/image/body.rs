//! What a manifest declares of the NMI body and of the context that it comes back to.

use std::ops::Range;

use super::resolver::{Error, Resolver, number};

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
