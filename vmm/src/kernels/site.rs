//! Where the first NMI arrives.

use std::time::Duration;

use super::lab::LabError;
use super::pc::{Error, Pc, Stop};
use crate::image::PlaceError;

/// The interrupted place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// In mid-checksum of the user program, at CPL 3.
    User,
    /// In the idle loop's HLT.
    Idle,
    /// Before the instruction at a kernel address, the next time execution gets there.
    Kernel(u64),
}

/// A function that the user program's getppid runs through in every round.
const DEFAULT: [&str; 3] = ["__x64_sys_getppid", "__do_sys_getppid", "sys_getppid"];

impl Site {
    /// Reads `user`, `idle`, or a place in the kernel; empty for getppid's function.
    pub fn parse(text: &str, pc: &Pc) -> Result<Self, LabError> {
        match text {
            "user" => Ok(Site::User),
            "idle" => Ok(Site::Idle),
            "" => pc.symbols.any(&DEFAULT).map(Site::Kernel).ok_or_else(|| {
                let why = "this kernel has no function for getppid; name the first NMI's place (--site)";
                Error::Symbols(why.into()).into()
            }),
            place => boundary(place, pc).map(Site::Kernel).map_err(LabError::Site),
        }
    }

    /// Runs until execution stands there.
    pub fn reach(&self, pc: &mut Pc, limit: Duration) -> Result<(), Error> {
        let start = std::time::Instant::now();
        let stops: &[u64] = match self {
            Site::Kernel(addr) => &[*addr],
            _ => &[],
        };
        pc.set_stop_at_idle(*self == Site::Idle);
        let found = loop {
            match (pc.run(stops, limit), self) {
                (Err(e), _) => break Err(e),
                (Ok(Stop::At(_)), Site::Kernel(_)) | (Ok(Stop::Mark), Site::User) | (Ok(Stop::Idle), Site::Idle) => {
                    break Ok(());
                }
                (Ok(Stop::Heartbeat(_) | Stop::Mark | Stop::Idle), _) if start.elapsed() < limit => {}
                (Ok(stop), _) => break Err(self.not_reached(pc, &stop)),
            }
        };
        pc.set_stop_at_idle(false);
        found
    }

    fn not_reached(&self, pc: &Pc, stop: &Stop) -> Error {
        let place = match self {
            Site::User => "user mode".to_owned(),
            Site::Idle => "the idle loop".to_owned(),
            Site::Kernel(addr) => pc.symbols.show(*addr),
        };
        let why = match stop {
            Stop::Heartbeat(_) | Stop::Mark | Stop::Idle | Stop::Budget => {
                "the user program runs on and does not get there".to_owned()
            }
            other => format!("{other:?} came before it"),
        };
        Error::Boot {
            why: format!("the first NMI's site, {place}, was not reached: {why}"),
            console: pc.console_tail(4),
        }
    }
}

/// The address of `label`, `label+0x10` or a number.
pub fn resolve(place: &str, pc: &Pc) -> Result<u64, PlaceError> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let (name, offset) = place.rsplit_once('+').unwrap_or((place, "0"));
    let unknown = || PlaceError::Unknown { name: name.to_owned(), known: pc.symbols.like(name) };
    let addr = number(name).or_else(|| pc.symbols.get(name)).ok_or_else(unknown)?;
    let offset = number(offset).and_then(|offset| addr.checked_add(offset));
    offset.ok_or_else(|| PlaceError::Number(place.to_owned()))
}

/// The same, where an instruction must begin: a stop amid one would change it.
pub fn boundary(place: &str, pc: &Pc) -> Result<u64, PlaceError> {
    let addr = resolve(place, pc)?;
    let refused = |hint| PlaceError::NotABoundary { place: place.to_owned(), hint };
    let text = pc.symbols.get("_stext")..pc.symbols.get("_etext");
    if !text.contains(&Some(addr)) {
        return Err(refused("; it is not in the kernel's text".into()));
    }
    let mut at = pc.symbols.at_or_before(addr).unwrap_or(addr);
    while at < addr {
        let Some(d) = pc.instruction(at) else { return Err(refused(String::new())) };
        if d.insn.next_ip() > addr {
            let (before, behind) = (pc.symbols.show(at), pc.symbols.show(d.insn.next_ip()));
            return Err(refused(format!("; there are: {before}, {behind}")));
        }
        at = d.insn.next_ip();
    }
    Ok(addr)
}
