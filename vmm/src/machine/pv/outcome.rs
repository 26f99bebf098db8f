//! What comes of a hypercall, of a delivery and of a return.

use guest::abi::Frame;

/// What a hypercall did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned to its caller; RAX holds the result.
    Returned,
    /// A context was resumed, by `HYPERVISOR_iret` or ERETS.
    Resumed {
        /// Its five words, CS and SS as bare selectors.
        frame: Frame,
        /// Where they stood.
        context_at: u64,
        /// The instruction that made the call.
        from: u64,
        /// The call unmasked NMIs.
        unmasked: bool,
    },
    /// It raised a fault at the call; registers, mask and memory are unchanged.
    Refused(Refusal),
    /// The domain is killed.
    Crashed(String),
}

/// A fault that a return raises instead of returning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The fault's vector.
    pub vector: u8,
    /// Its error code, 0 where it has none.
    pub error: u16,
    /// Why it is raised, in a few words.
    pub why: &'static str,
}

impl Refusal {
    /// #GP(0).
    pub fn protection(why: &'static str) -> Self {
        Self { vector: 13, error: 0, why }
    }
}

/// `-EPERM`.
pub(super) const EPERM: u64 = (-1i64) as u64;
/// `-ENOSYS`, as hypercalls return it.
pub(super) const ENOSYS: u64 = (-38i64) as u64;
/// `-EINVAL`.
pub(super) const EINVAL: u64 = (-22i64) as u64;
/// `-EFAULT`.
pub(super) const EFAULT: u64 = (-14i64) as u64;

/// What became of an NMI that was latched, or of a user's SYSCALL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vCPU stands at the handler's first instruction.
    Entered,
    /// No callback is registered: the NMI is lost, until one is.
    Lost,
    /// Its frame could not be written: the domain is killed.
    Crashed(String),
}
