//! What this KVM says of itself.

use kvm_ioctls::Cap;

use super::Host;

/// Capabilities that say what a laboratory could do on a host. None of them tells
/// how the host behaves: that is measured (see [`crate::probe`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// `KVM_CAP_SYNC_REGS`: which parts of the state go in and out with `KVM_RUN`.
    pub sync_regs: i32,
    /// `KVM_CAP_XEN_HVM`: flags of the Xen interface, 0 where there is none.
    pub xen_hvm: i32,
    /// `KVM_CAP_X86_SMM`: whether system management mode is emulated.
    pub smm: bool,
    /// `KVM_CAP_SET_GUEST_DEBUG`: stepping and breakpoints.
    pub guest_debug: bool,
}

impl Host {
    /// What this KVM says of itself.
    pub fn caps(&self) -> Caps {
        Caps {
            sync_regs: self.kvm().check_extension_int(Cap::SyncRegs),
            xen_hvm: self.kvm().check_extension_int(Cap::XenHvm),
            smm: self.kvm().check_extension(Cap::X86Smm),
            guest_debug: self.kvm().check_extension(Cap::SetGuestDebug),
        }
    }
}
