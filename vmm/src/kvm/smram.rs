//! Memory that only a CPU in SMM sees, with the handler of SMIs: KVM's second address space, so that
//! no byte of the guest's RAM changes.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

use super::Error;
use super::ram::Ram;

/// SMBASE after a reset, and the bytes from there that a handler and what the CPU saves take (SDM
/// vol. 3, 31.4).
const SMBASE: u64 = 0x3_0000;
const BYTES: u64 = 0x1_0000;
/// From SMBASE to the handler's first instruction.
const HANDLER: usize = 0x8000;
/// Where the CPU saves RIP: AMD's layout (APM vol. 2, table 10-1), which KVM uses for a guest whose
/// CPUID has long mode, on every processor.
const SAVED_RIP: usize = 0xff78;
/// What the handler counts its calls in: behind its code.
const COUNT: usize = 0x9000;
/// The handler, in the 16-bit mode of SMM with CS.base at SMBASE: `incl %cs:COUNT; rsm`.
const CODE: [u8; 8] = [0x2e, 0x66, 0xff, 0x06, COUNT as u8, (COUNT >> 8) as u8, 0x0f, 0xaa];
/// KVM's number of the slot: 0, in the address space of SMM.
const SLOT: u32 = 1 << 16;

/// Memory of SMM.
pub(super) struct Smram(Ram);

impl Smram {
    /// Gives it to a VM, in whose struct it must live behind `vm`.
    pub(super) fn map(vm: &VmFd) -> Result<Self, Error> {
        let mut ram = Ram::new(BYTES)?;
        ram.bytes_mut()[HANDLER..HANDLER + CODE.len()].copy_from_slice(&CODE);
        let region = kvm_userspace_memory_region {
            slot: SLOT,
            flags: 0,
            guest_phys_addr: SMBASE,
            memory_size: ram.len(),
            userspace_addr: ram.host_address(),
        };
        // SAFETY: the region is mapped and `memory_size` long. It lives in the same struct as the VM, which
        // is dropped first; where the call fails, KVM does not know of it.
        unsafe { vm.set_user_memory_region(region) }.map_err(Error::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        Ok(Self(ram))
    }

    /// How often the handler was called.
    pub(super) fn count(&self) -> u64 {
        self.word(COUNT)
    }

    /// RIP where the last SMI came.
    pub(super) fn saved_rip(&self) -> u64 {
        self.word(SAVED_RIP)
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0.bytes()[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
}
