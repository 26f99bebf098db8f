//! What a machine is made of: its RAM, whether it has a local APIC, and the CPU that it shows.

use serde::{Deserialize, Serialize};

use super::Error;
use super::apic::{BOOTS, DEFAULT_BASE, ENABLED};
use crate::kvm::{Host, Vm};

/// What a machine is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// Whether there is a local APIC. Without one the 8259s interrupt the CPU.
    #[serde(default)]
    pub apic: bool,
    /// Whether CPUID shows little more than x86-64 itself, so that a kernel uses little that a KVM
    /// which emulates CPL 0 lacks.
    #[serde(default)]
    pub plain: bool,
}

/// CPUID.0x80000001:EDX: RDTSCP and pages of 1 GiB.
const RDTSCP_AND_LARGE: u32 = 1 << 27 | 1 << 26;

impl Board {
    /// The virtual machine, whose vCPU shows what this board has.
    pub(super) fn vm(self, host: &Host) -> Result<Vm, Error> {
        let mut vm = Vm::new(host, self.ram_bytes)?;
        vm.edit_cpuid(host, |entry| {
            match entry.function {
                // No x2APIC, no machine checks, and nothing that needs XSAVE: FXSAVE's state
                // is saved.
                1 => {
                    entry.ecx &= !(1 << 3 | 1 << 5 | 1 << 12 | 1 << 15 | 1 << 21 | 1 << 24 | 7 << 26 | 1 << 29);
                    entry.edx &= !(1 << 7 | 1 << 14);
                    if !self.apic {
                        entry.edx &= !(1 << 9);
                    }
                    if self.plain {
                        entry.ecx = 0;
                    }
                }
                // Performance counters, whose NMIs would not be the lab's; XSAVE.
                0xa | 0xd => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
                7 if self.plain => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
                0x8000_0001 => {
                    entry.ecx &= !(1 << 2);
                    if self.plain {
                        entry.ecx &= 1;
                        entry.edx &= !RDTSCP_AND_LARGE;
                    }
                }
                0x8000_0008 if self.plain => entry.ebx = 0,
                _ => {}
            }
            !(0x4000_0000..0x5000_0000).contains(&entry.function)
        })?;
        if self.apic {
            vm.state_mut().sregs.apic_base = DEFAULT_BASE | ENABLED | BOOTS;
        }
        Ok(vm)
    }
}
