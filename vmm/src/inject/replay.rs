//! The line that every failure prints, and that runs it again.

use crate::image::{Guest, Mode};
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;

/// `SCHEME/SCENARIO/MODE@IMAGE [knob=…] SCHEDULE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the mask.
    pub mode: Mode,
    /// The guest image's hash.
    pub image: String,
    /// Knobs that differ from their defaults.
    pub knobs: Knobs,
    /// The schedule's text; it needs the image to be resolved.
    pub schedule: String,
}

/// A replay line that cannot be carried out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    /// Not of the form.
    #[error("{0:?} is no replay line; one reads 'naive/quiet/native@0123456789abcdef nmi@exit_iret#1'")]
    Form(String),
    /// A knob that is not known.
    #[error("unknown model knob {0:?}; expected faulting-iret=unblocks, faulting-iret=keeps or hv-bug=NAME")]
    Knob(String),
    /// The line was printed for another image.
    #[error(
        "this line is about guest image {wanted}, and this one is {found}: labels and offsets may mean something \
         else here. Name the image with --guest or --entry, use the program that printed the line, or run the campaign again"
    )]
    OtherImage {
        /// The hash in the line.
        wanted: String,
        /// The one at hand.
        found: String,
    },
}

impl Replay {
    /// Reads a line.
    pub fn parse(line: &str) -> Result<Self, ReplayError> {
        let form = || ReplayError::Form(line.to_owned());
        let mut words = line.split_whitespace();
        let (run, image) = words.next().and_then(|w| w.split_once('@')).ok_or_else(form)?;
        let mut parts = run.split('/');
        let (Some(scheme), Some(scenario), Some(mode), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let mode = match mode {
            "native" => Mode::Native,
            "pv" => Mode::Pv,
            _ => return Err(form()),
        };
        let mut knobs = Knobs::default();
        let mut schedule = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some(("faulting-iret", "unblocks")) => knobs.faulting_iret_unblocks = true,
                Some(("faulting-iret", "keeps")) => knobs.faulting_iret_unblocks = false,
                // `fault=` is how lines were written before.
                Some(("hv-bug" | "fault", name)) if name.parse::<HvBug>().is_ok() => knobs.hv_bug = name.parse().ok(),
                Some(_) => return Err(ReplayError::Knob(word.to_owned())),
                None => schedule.push(word),
            }
        }
        if [scheme, scenario, image].iter().any(|s| s.is_empty()) {
            return Err(form());
        }
        let (scheme, scenario, image) = (scheme.to_owned(), scenario.to_owned(), image.to_owned());
        Ok(Self { scheme, scenario, mode, image, knobs, schedule: schedule.join(" ") })
    }

    /// Refuses another image than the one the line is about.
    pub fn check_image(&self, guest: &Guest) -> Result<(), ReplayError> {
        let found = guest.image.hash.clone();
        if self.image == found { Ok(()) } else { Err(ReplayError::OtherImage { wanted: self.image.clone(), found }) }
    }
}

impl std::fmt::Display for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}@{}", self.scheme, self.scenario, self.mode, self.image)?;
        if let Some(bug) = self.knobs.hv_bug {
            write!(f, " hv-bug={bug}")?;
        }
        if self.knobs.faulting_iret_unblocks != Knobs::default().faulting_iret_unblocks {
            let value = if self.knobs.faulting_iret_unblocks { "unblocks" } else { "keeps" };
            write!(f, " faulting-iret={value}")?;
        }
        if !self.schedule.is_empty() {
            write!(f, " {}", self.schedule)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::hv_bug::HvBug;

    #[test]
    fn a_hypervisors_bug_is_read_by_its_old_name_and_written_by_its_new_one() {
        let new = "mainline/quiet/native@0123 hv-bug=second-nmi-lost nmi@work#1";
        for line in [new, "mainline/quiet/native@0123 fault=second-nmi-lost nmi@work#1"] {
            let read = Replay::parse(line).unwrap();
            assert_eq!(read.knobs.hv_bug, Some(HvBug::SecondNmiLost));
            assert_eq!(read.to_string(), new);
        }
        let unknown = Replay::parse("a/b/pv@0 hv-bug=none");
        assert_eq!(unknown, Err(ReplayError::Knob("hv-bug=none".into())));
    }
}
