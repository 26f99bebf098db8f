//! Where the first NMI arrives.

use std::time::Duration;

use crate::machine::linux::{Error, Pc, Stop};

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
    pub fn parse(text: &str, pc: &Pc) -> Result<Self, Error> {
        match text {
            "user" => Ok(Site::User),
            "idle" => Ok(Site::Idle),
            "" => pc.symbols.any(&DEFAULT).map(Site::Kernel).ok_or_else(|| {
                Error::Symbols("this kernel has no function for getppid; name the first NMI's place".into())
            }),
            place => resolve(place, pc).map(Site::Kernel),
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
pub fn resolve(place: &str, pc: &Pc) -> Result<u64, Error> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let (name, offset) = place.rsplit_once('+').unwrap_or((place, "0"));
    let addr = number(name).or_else(|| pc.symbols.get(name));
    match (addr, number(offset)) {
        (Some(addr), Some(offset)) => Ok(addr + offset),
        (None, _) => {
            let like = pc.symbols.like(name);
            let hint = if like.is_empty() { String::new() } else { format!("; there are: {}", like.join(", ")) };
            Err(Error::Symbols(format!("the kernel has no {name:?}{hint}")))
        }
        (_, None) => Err(Error::Symbols(format!("{offset:?} in {place:?} is no number"))),
    }
}
