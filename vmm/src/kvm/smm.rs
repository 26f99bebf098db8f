//! System management interrupts. Their handler runs in memory that only a CPU in SMM sees: KVM's
//! second address space, so that no byte of the guest's RAM changes.

use kvm_bindings::{KVM_CAP_MULTI_ADDRESS_SPACE, kvm_userspace_memory_region};

use super::ram::Ram;
use super::{Debug, Error, Exit, Host, Vm};

/// SMBASE after a reset, and the bytes from there that a handler and what the CPU saves take (SDM
/// vol. 3, 31.4).
const SMBASE: u64 = 0x3_0000;
const SMRAM_BYTES: u64 = 0x1_0000;
/// From SMBASE to the handler's first instruction.
const HANDLER: usize = 0x8000;
/// Where the CPU saves RIP: AMD's layout (APM vol. 2, table 10-1), which KVM uses for a guest whose
/// CPUID has long mode, on every processor.
const SAVED_RIP: usize = 0xff78;
/// What the handler counts its calls in: behind its code.
const COUNT: usize = 0x9000;
/// The handler, in the 16-bit mode of SMM with CS.base at SMBASE: `incl %cs:COUNT; rsm`.
const CODE: [u8; 8] = [0x2e, 0x66, 0xff, 0x06, COUNT as u8, (COUNT >> 8) as u8, 0x0f, 0xaa];
/// Steps that its two instructions may take: kvm_intel on Bochs stops more than once at an instruction
/// whose page is touched for the first time (probe `step-first-touch`).
const HANDLER_STEPS: usize = 16;
/// KVM's number of the slot: 0, in the address space of SMM.
const SLOT: u32 = 1 << 16;

/// Memory of SMM.
pub(super) struct Smram(Ram);

impl Smram {
    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0.bytes()[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
}

impl Host {
    /// Whether this KVM has system management mode, with memory of its own.
    pub fn has_smm(&self) -> bool {
        self.caps().smm && self.kvm().check_extension_raw(KVM_CAP_MULTI_ADDRESS_SPACE.into()) > 1
    }
}

impl Vm {
    /// An SMI comes before the next instruction, on a KVM that has system management mode
    /// ([`Host::has_smm`]). Its handler counts itself ([`Vm::smis`]), and ends by RSM.
    pub fn raise_smi(&mut self) -> Result<(), Error> {
        if self.smram.is_none() {
            self.smram = Some(self.map_smram()?);
        }
        self.vcpu.smi().map_err(Error::ioctl("KVM_SMI"))
    }

    /// The same, and runs to where its handler has returned: no instruction of the guest's is executed.
    /// Where this KVM does otherwise, returns the exit that it came to instead.
    ///
    /// RFLAGS.TF must be clear, since KVM steps the RSM by it, and forgets the guest's.
    pub fn take_smi(&mut self) -> Result<Result<(), Exit>, Error> {
        let (before, at) = (self.smis(), self.state.regs.rip);
        self.raise_smi()?;
        self.guest_debug(Debug::Step)?;
        let mut exit = self.run()?;
        // The step may be one of the handler's own. What is loaded there is the state of SMM, which no
        // state of ours holds all of: it is left where it is.
        for _ in 0..HANDLER_STEPS {
            if !matches!(exit, Exit::Debug { .. }) || self.state.regs.rip == at {
                break;
            }
            exit = self.enter(0)?;
            self.fetch()?;
        }
        self.guest_debug(Debug::Off)?;
        let came = matches!(exit, Exit::Debug { .. }) && self.state.regs.rip == at && self.smis() == before + 1;
        Ok(if came { Ok(()) } else { Err(exit) })
    }

    /// How many SMIs this VM's handler was called for.
    pub fn smis(&self) -> u64 {
        self.smram.as_ref().map_or(0, |smram| smram.word(COUNT))
    }

    /// RIP where the last SMI came; 0 where none did.
    pub fn smi_from(&self) -> u64 {
        self.smram.as_ref().map_or(0, |smram| smram.word(SAVED_RIP))
    }

    fn map_smram(&self) -> Result<Smram, Error> {
        let mut ram = Ram::new(SMRAM_BYTES)?;
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
        unsafe { self.fd.set_user_memory_region(region) }.map_err(Error::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        Ok(Smram(ram))
    }
}
