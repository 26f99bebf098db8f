//! Where the first NMI arrives.

use std::time::Duration;

use super::error::LabError;
use super::kernel::Kernel;
use super::pc::{Error, KernelSymbols, Limit, Pc, Stop};
use crate::image::PlaceError;

/// The interrupted place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// In mid-checksum of the user program, at CPL 3.
    User,
    /// The same, on a 16-bit stack segment of the LDT.
    UserLdt,
    /// Before the first instruction of SYSCALL's entry, with an RSP of user code's that points into
    /// the NMI stack. User code may have any.
    UserRsp,
    /// Before the first instruction of #BP's handler, which user code with DF set has come to: the
    /// stack is below that of NMIs.
    UserBp,
    /// The same of #DB, whose own stack is above that of NMIs.
    UserDb,
    /// In the idle loop's HLT.
    Idle,
    /// Before the instruction at a kernel address, the next time execution gets there.
    Kernel(u64),
}

impl Site {
    /// Those that have names, and the names.
    const NAMED: [(&str, Site); 6] = [
        ("user", Site::User),
        ("user-ldt", Site::UserLdt),
        ("user-rsp", Site::UserRsp),
        ("user-bp", Site::UserBp),
        ("user-db", Site::UserDb),
        ("idle", Site::Idle),
    ];

    /// The site of this name. Those of user code are sites of a kernel that runs the lab's user
    /// program.
    pub fn named(text: &str, kernel: &dyn Kernel) -> Option<Self> {
        let user = kernel.first_site() == "user";
        let found = Self::NAMED.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, site)| site).filter(|site| user || *site == Site::Idle)
    }

    /// Whether a site of some kernel has this name.
    pub fn is_name(text: &str) -> bool {
        Self::NAMED.iter().any(|(name, _)| *name == text)
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        Self::NAMED.iter().find(|(_, site)| site == self).map(|(name, _)| *name)
    }

    /// Whether it is in user mode.
    pub fn is_user(&self) -> bool {
        matches!(self, Site::User | Site::UserLdt)
    }

    /// Whether RSP points at the stack of what is interrupted.
    pub fn has_stack(&self) -> bool {
        *self != Site::UserRsp
    }

    /// Reads a name, or a place in the kernel; empty for the kernel's default.
    pub fn parse(text: &str, pc: &Pc, kernel: &dyn Kernel) -> Result<Self, LabError> {
        if let Some(site) = Self::named(text, kernel) {
            return Ok(site);
        }
        match text {
            "" => Ok(Site::Kernel(kernel.default_site()?)),
            place => boundary(place, pc).map(Site::Kernel).map_err(LabError::Site),
        }
    }

    /// Runs until execution stands there.
    pub fn reach(&self, pc: &mut Pc, limit: Duration) -> Result<(), Error> {
        match self {
            Site::UserRsp => return user_rsp(pc, limit),
            Site::UserBp | Site::UserDb => {
                Site::User.reach(pc, limit)?;
                let stop = if *self == Site::UserBp { pc.breakpoint(limit)? } else { pc.debug_exception(limit)? };
                return raised(pc, &stop);
            }
            Site::Kernel(addr) if *addr == pc.rip() => return Ok(()),
            Site::User | Site::UserLdt | Site::Idle | Site::Kernel(_) => {}
        }
        let all = Limit::new(limit)?;
        let stops: &[u64] = match self {
            Site::Kernel(addr) => &[*addr],
            _ => &[],
        };
        pc.set_stop_at_idle(*self == Site::Idle);
        let found = loop {
            match (pc.run(stops, limit), self) {
                (Err(e), _) => break Err(e),
                (Ok(Stop::At(_)), Site::Kernel(_))
                | (Ok(Stop::Mark), Site::User)
                | (Ok(Stop::LdtMark), Site::UserLdt)
                | (Ok(Stop::Idle), Site::Idle) => break Ok(()),
                (Ok(Stop::Heartbeat(_) | Stop::Mark | Stop::LdtMark | Stop::Idle), _) if !all.is_over()? => {}
                (Ok(stop), _) => break Err(self.not_reached(pc, &stop)),
            }
        };
        pc.set_stop_at_idle(false);
        found
    }

    fn not_reached(&self, pc: &Pc, stop: &Stop) -> Error {
        let place = match self {
            Site::User | Site::UserRsp | Site::UserBp | Site::UserDb => "user mode".to_owned(),
            Site::UserLdt => "user mode on a stack segment of the LDT (which needs modify_ldt of the kernel, and of \
                              KVM that user code sees the LDT)"
                .to_owned(),
            Site::Idle => "the idle loop".to_owned(),
            Site::Kernel(addr) => pc.symbols.show(*addr),
        };
        let why = match stop {
            Stop::Heartbeat(_) | Stop::Mark | Stop::LdtMark | Stop::Idle | Stop::Budget => {
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

/// How far below the top of the NMI stack user code has its RSP at [`Site::UserRsp`].
const BELOW_TOP: u64 = 0x100;

/// User code comes into the kernel by SYSCALL, with its RSP in the NMI stack.
fn user_rsp(pc: &mut Pc, limit: Duration) -> Result<(), Error> {
    let missing = |what: &str| Error::Symbols(format!("user-rsp: {what}"));
    let entry = pc.syscall_entry().ok_or_else(|| missing("there is no entry_SYSCALL_64"))?;
    let top = pc.interrupt_stack(2)?.ok_or_else(|| missing("NMIs have no stack of their own"))?;
    Site::Kernel(entry).reach(pc, limit)?;
    // Nothing has read RSP since user code executed SYSCALL, and the program keeps its own in R9.
    pc.state_mut().regs.rsp = top.wrapping_sub(BELOW_TOP);
    Ok(())
}

/// What is to be said if an exception that was raised to come to a site was not delivered.
pub(super) fn raised(pc: &Pc, stop: &Stop) -> Result<(), Error> {
    match stop {
        Stop::At(_) => Ok(()),
        other => {
            let why = format!("the exception whose handler is the first NMI's site was not delivered: {other:?}");
            Err(Error::Boot { why, console: pc.console_tail(4) })
        }
    }
}

/// The address of `label`, `label+0x10` or a number.
pub fn resolve(place: &str, symbols: &KernelSymbols) -> Result<u64, PlaceError> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let (name, offset) = place.rsplit_once('+').unwrap_or((place, "0"));
    let unknown = || PlaceError::Unknown { name: name.to_owned(), known: symbols.like(name) };
    let addr = number(name).or_else(|| symbols.get(name)).ok_or_else(unknown)?;
    let offset = number(offset).and_then(|offset| addr.checked_add(offset));
    offset.ok_or_else(|| PlaceError::Number(place.to_owned()))
}

/// Whether an address is in the kernel's text.
pub fn in_text(place: &str, addr: u64, symbols: &KernelSymbols) -> Result<(), PlaceError> {
    match symbols.in_text(addr) {
        true => Ok(()),
        false => {
            let hint = "; it is not in the kernel's text".into();
            Err(PlaceError::NotABoundary { place: place.to_owned(), hint })
        }
    }
}

/// The same as [`resolve`], where an instruction must begin: a stop amid one would change it.
pub fn boundary(place: &str, pc: &Pc) -> Result<u64, PlaceError> {
    let addr = resolve(place, &pc.symbols)?;
    in_text(place, addr, &pc.symbols)?;
    let refused = |hint| PlaceError::NotABoundary { place: place.to_owned(), hint };
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
