//! The host's KVM: opened once, checked for what the lab cannot do without.

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, KVM_SYNC_X86_EVENTS, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS,
};
use kvm_ioctls::{Cap, Kvm};

use super::{Error, Quirks};
use crate::host_id::HostId;

/// All three parts of the sync-regs area.
pub(super) const SYNC_ALL: u32 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

/// Environment variable that names another device than `/dev/kvm`.
const DEVICE_VARIABLE: &str = "VMM_KVM";

/// An open `/dev/kvm`.
pub struct Host {
    kvm: Kvm,
    cpuid: CpuId,
    id: HostId,
    quirks: Quirks,
}

impl Host {
    /// Opens `/dev/kvm` and checks it.
    pub fn open() -> Result<Self, Error> {
        let device = std::env::var(DEVICE_VARIABLE).unwrap_or_else(|_| "/dev/kvm".to_owned());
        let device = std::ffi::CString::new(device).map_err(|_| Error::NoDevice)?;
        let kvm = Kvm::new_with_path(&device).map_err(|e| match e.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Error::NoDevice,
            libc::EACCES | libc::EPERM => Error::NoPermission,
            _ => Error::ioctl("open /dev/kvm")(e),
        })?;
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(Error::ApiVersion(version));
        }
        if kvm.check_extension_int(Cap::SyncRegs) as u32 & SYNC_ALL != SYNC_ALL {
            return Err(Error::MissingCapability("KVM_CAP_SYNC_REGS (registers, system registers, events)"));
        }
        for (cap, name) in [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
            (Cap::UserNmi, "KVM_CAP_USER_NMI"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(Error::MissingCapability(name));
            }
        }
        let mut cpuid =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(Error::ioctl("KVM_GET_SUPPORTED_CPUID"))?;
        hide_what_is_not_modelled(&mut cpuid);
        Ok(Self { kvm, cpuid, id: HostId::here(), quirks: Quirks::default() })
    }

    /// The same host, with what was measured of it.
    pub fn measured(self, id: HostId, quirks: Quirks) -> Self {
        Self { id, quirks, ..self }
    }

    /// A system call that does nothing in KVM, to see what one takes.
    pub fn call(&self) {
        std::hint::black_box(self.kvm.get_api_version());
    }

    /// Which host it is. Every result carries this.
    pub fn id(&self) -> &HostId {
        &self.id
    }

    /// The workarounds it needs; none where it was not measured.
    pub fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// The descriptor of `/dev/kvm`.
    pub(super) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// The CPUID leaves this host supports; the lab hands them to its guests whole.
    pub(super) fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }
}

/// Takes features away that make guests depend on what no machine state holds, or that the lab's
/// model does not know: a transaction aborts whenever it likes, and DR6 has a bit more with each of
/// transactions and bus-lock exceptions (SDM vol. 3, 17.2.3).
fn hide_what_is_not_modelled(cpuid: &mut CpuId) {
    const HLE_RTM: u32 = 1 << 4 | 1 << 11; // SDM vol. 2, CPUID, leaf 7
    const BUS_LOCK_DETECT: u32 = 1 << 24;
    for entry in cpuid.as_mut_slice().iter_mut().filter(|e| (e.function, e.index) == (7, 0)) {
        entry.ebx &= !HLE_RTM;
        entry.ecx &= !BUS_LOCK_DETECT;
    }
}
