//! Why a machine did not come up, or failed in a way that is no verdict.

use super::boot;
use crate::kvm;

/// Why a machine did not come up, or failed in a way that is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM failed.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// The image could not be put into memory.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// The guest ended or hung before it reported *ready*.
    #[error("the guest never reported ready: {0}")]
    NotReady(String),
    /// This KVM did something that the lab has no answer to.
    #[error("this KVM cannot run the guest exactly: {0}")]
    Host(String),
    /// The guest did what the contract forbids, and no verdict on it would be worth anything.
    #[error("the guest broke the contract: {0}")]
    Contract(String),
    /// Its run without NMIs, which every other is compared with, is none.
    #[error("the guest's run without NMIs {0}")]
    Golden(String),
    /// The user wanted an end.
    #[error("interrupted")]
    Interrupted,
    /// This KVM cannot run this scenario at all: what every case of it is, `host-limit`.
    #[error("this KVM cannot show it: {0}")]
    Limit(String),
}
