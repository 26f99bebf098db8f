//! Xen's hypercalls in KVM (`KVM_CAP_XEN_HVM`): a page of stubs that KVM writes in the
//! CPU's own dialect, and an exit for every call.

use kvm_bindings::{KVM_XEN_HVM_CONFIG_HYPERCALL_MSR, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, KVMIO, kvm_xen_hvm_config};
use kvm_ioctls::Cap;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::{Error, Host, Vm};

ioctl_iow_nr!(KVM_XEN_HVM_CONFIG, KVMIO, 0x7a, kvm_xen_hvm_config);

/// Bytes of the instruction that makes the call: `vmcall`, or `vmmcall` on AMD.
pub const XEN_CALL_BYTES: u64 = 3;
/// Bytes of each of the page's stubs; the one of hypercall n begins at n times this.
pub const XEN_STUB_BYTES: u64 = 32;

impl Host {
    /// Whether this KVM says that it writes the page and hands hypercalls out.
    pub fn offers_xen_hypercalls(&self) -> bool {
        let needed = KVM_XEN_HVM_CONFIG_HYPERCALL_MSR | KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL;
        self.kvm().check_extension_int(Cap::XenHvm) as u32 & needed == needed
    }
}

impl Vm {
    /// Has every `vmcall` and `vmmcall` leave as [`super::Exit::XenHypercall`], and the page
    /// written whose guest-physical address the guest writes to the MSR `msr`.
    pub fn hand_out_xen_hypercalls(&mut self, msr: u32) -> Result<(), Error> {
        let config = kvm_xen_hvm_config { flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, msr, ..Default::default() };
        // SAFETY: a KVM_XEN_HVM_CONFIG on a VM's descriptor reads one
        // kvm_xen_hvm_config, which `config` is and outlives.
        match unsafe { ioctl_with_ref(&self.fd, KVM_XEN_HVM_CONFIG(), &config) } {
            0 => Ok(()),
            _ => Err(Error::ioctl("KVM_XEN_HVM_CONFIG")(kvm_ioctls::Error::last())),
        }
    }

    /// Lets KVM finish a hypercall, which leaves RIP at the instruction: the next
    /// KVM_RUN would move it and write RAX, over whatever state was loaded meanwhile. A
    /// run that is told to exit at once does only that; the result is what RAX holds.
    pub(super) fn complete_xen_hypercall(&mut self) -> Result<(), Error> {
        let rax = self.vcpu.sync_regs_mut().regs.rax;
        // The exit was KVM_EXIT_XEN of a hypercall, so this is the union's member.
        self.vcpu.get_kvm_run().__bindgen_anon_1.xen.u.hcall.result = rax;
        self.complete_io()
    }
}
