//! A case of a sweep before it is run.

use std::fmt;

use super::expect::Expected;
use crate::inject::{At, Event};

/// A case that is to be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where the last event happens.
    pub at: At,
    /// How it finds NMIs.
    pub kind: Kind,
    /// Every event, in order.
    pub events: Vec<Event>,
    /// What is to be expected.
    pub expected: Expected,
}

/// How the further NMI finds the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As it is: NMIs blocked, but for entry code that unblocks them.
    Masked,
    /// Something unblocked NMIs just before: a fault's iretq in the handler, an SMI, a
    /// machine check.
    Unmasked,
}

impl Kind {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Masked => "masked",
            Kind::Unmasked => "unmasked",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Masked => "as the CPU left them",
            Kind::Unmasked => "unblocked there",
        })
    }
}
