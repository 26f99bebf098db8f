//! System management interrupts.

use kvm_bindings::KVM_CAP_MULTI_ADDRESS_SPACE;

use super::smram::Smram;
use super::{Debug, Error, Exit, Host, Vm};

/// Steps that the handler's two instructions may take: kvm_intel on Bochs stops more than once at an
/// instruction whose page is touched for the first time (probe `step-first-touch`).
const HANDLER_STEPS: usize = 16;

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
            self.smram = Some(Smram::map(&self.fd)?);
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
        self.smram.as_ref().map_or(0, Smram::count)
    }

    /// RIP where the last SMI came; 0 where none did.
    pub fn smi_from(&self) -> u64 {
        self.smram.as_ref().map_or(0, Smram::saved_rip)
    }
}
