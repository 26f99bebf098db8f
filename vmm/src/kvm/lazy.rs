//! The lazy part of the vCPU's state: written before a run where it is not what the vCPU
//! has, read after it where an instruction of its class may have run.

use kvm_bindings::{kvm_debugregs, kvm_xcr, kvm_xcrs, kvm_xsave};

use super::{Error, Vm};
use crate::cpu::{Classes, Debug, Lazy, LazyId, Msrs};

impl Vm {
    /// From now on the lazy state is part of the state, and `classes` of it are read after
    /// every run.
    pub fn carry_lazy(&mut self, classes: Classes) -> Result<(), Error> {
        self.lazy_classes = classes;
        let every = Classes { debug: true, vector: true, msr: true };
        let now = LazyId::of(self.read_lazy(&Lazy::default(), every)?);
        (self.state.lazy, self.lazy_loaded) = (now, now);
        Ok(())
    }

    /// The classes that are read after every run.
    pub fn lazy_classes(&self) -> Classes {
        self.lazy_classes
    }

    /// Reads these classes, too: an instruction of theirs comes next.
    pub fn add_lazy_classes(&mut self, classes: Classes) {
        self.lazy_classes = self.lazy_classes.or(classes);
    }

    /// Before a run.
    pub(super) fn load_lazy(&mut self) -> Result<(), Error> {
        if self.state.lazy == self.lazy_loaded {
            return Ok(());
        }
        let (wanted, have) = (self.state.lazy.state(), self.lazy_loaded.state());
        if wanted.debug != have.debug {
            let d = wanted.debug;
            let regs = kvm_debugregs { db: d.addresses, dr6: d.dr6, dr7: d.dr7, ..Default::default() };
            self.vcpu.set_debug_regs(&regs).map_err(Error::ioctl("KVM_SET_DEBUGREGS"))?;
        }
        for ((number, wanted), have) in Msrs::NUMBERS.iter().zip(wanted.msrs.values).zip(have.msrs.values) {
            if wanted != have && !self.set_msr(*number, wanted)? {
                return Err(Error::MissingCapability("an MSR that it had before"));
            }
        }
        if wanted.xcr0 != have.xcr0 {
            self.set_xcr0(wanted.xcr0)?;
        }
        if wanted.vector != have.vector {
            self.set_vector(&wanted.vector)?;
        }
        self.lazy_loaded = self.state.lazy;
        Ok(())
    }

    /// After a run.
    pub(super) fn fetch_lazy(&mut self) -> Result<(), Error> {
        if self.lazy_classes.is_empty() {
            return Ok(());
        }
        let before = self.lazy_loaded.state();
        let now = self.read_lazy(&before, self.lazy_classes)?;
        if now != *before {
            self.lazy_loaded = LazyId::of(now);
        }
        self.state.lazy = self.lazy_loaded;
        Ok(())
    }

    /// Reads all of it from the vCPU, whatever is carried: what a run is held to at its end.
    pub fn whole_lazy(&self) -> Result<Lazy, Error> {
        self.read_lazy(&Lazy::default(), Classes { debug: true, vector: true, msr: true })
    }

    fn read_lazy(&self, before: &Lazy, classes: Classes) -> Result<Lazy, Error> {
        let mut now = before.clone();
        if classes.debug {
            let d = self.vcpu.get_debug_regs().map_err(Error::ioctl("KVM_GET_DEBUGREGS"))?;
            now.debug = Debug { addresses: d.db, dr6: d.dr6, dr7: d.dr7 };
        }
        if classes.msr {
            for (number, value) in Msrs::NUMBERS.iter().zip(&mut now.msrs.values) {
                // One that this host has not can hold nothing: a guest's WRMSR to it is #GP.
                *value = self.msr(*number)?.unwrap_or(0);
            }
        }
        if classes.vector {
            let area = self.vcpu.get_xsave().map_err(Error::ioctl("KVM_GET_XSAVE"))?;
            now.xcr0 = self.xcr0()?;
            now.vector = area.region.to_vec();
            self.components.settle(now.xcr0, &mut now.vector)?;
        }
        Ok(now)
    }

    fn xcr0(&self) -> Result<u64, Error> {
        let all = self.vcpu.get_xcrs().map_err(Error::ioctl("KVM_GET_XCRS"))?;
        let count = (all.nr_xcrs as usize).min(all.xcrs.len());
        // A vCPU without XSAVE has none, and then none that the guest can change.
        Ok(all.xcrs[..count].iter().find(|x| x.xcr == 0).map_or(0, |x| x.value))
    }

    fn set_xcr0(&mut self, value: u64) -> Result<(), Error> {
        let mut all = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        all.xcrs[0] = kvm_xcr { xcr: 0, value, ..Default::default() };
        self.vcpu.set_xcrs(&all).map_err(Error::ioctl("KVM_SET_XCRS"))
    }

    fn set_vector(&mut self, words: &[u32]) -> Result<(), Error> {
        let mut area = kvm_xsave::default();
        area.region.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        // SAFETY: the vCPU's guest state was read by KVM_GET_XSAVE on the same vCPU
        // configuration, whose area is 4096 bytes: no feature beyond it was enabled by
        // arch_prctl, so KVM reads no byte behind `area`.
        unsafe { self.vcpu.set_xsave(&area) }.map_err(Error::ioctl("KVM_SET_XSAVE"))
    }
}
