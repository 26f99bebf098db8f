//! Body environment (I21): what an NMI body may rely on when it begins.
//!
//! DF is clear, as the System V ABI says; TF, NT and IF are clear, as a delivery leaves them.
//! AC is clear where it means anything to a kernel, which is with CR4.SMAP, and where the
//! scheme declares that its body relies on it (`relies=ac`). RSP is aligned as the manifest
//! says (`body rsp=`). DR7 arms no breakpoint, and model-specific registers have the values that a
//! scheme declares for them (`relies=dr7`, `body_msr=`). As for RSP: where the body is not compiled code, the ABI does not bind it. The page
//! table is I11's, GS is I10's.

use crate::cpu::control::CR4_SMAP;
use crate::cpu::rflags;
use crate::machine::Machine;
use crate::oracle::{Invariant, Oracle};

/// What no body may find set, by name.
const FLAGS: [(u64, &str); 5] =
    [(rflags::DF, "DF"), (rflags::TF, "TF"), (rflags::IF, "IF"), (rflags::NT, "NT"), (rflags::AC, "AC")];

/// The bits of DR7 that enable breakpoints (SDM vol. 3, 19.2.4).
const DR7_ENABLES: u64 = 0xff;

impl Oracle {
    /// A body begins: the machine stands after its hypercall.
    pub(in crate::oracle) fn check_environment(&mut self, machine: &Machine) {
        let state = machine.state();
        let ac_matters = state.sregs.cr4 & CR4_SMAP != 0 || self.rules.scheme.relies.ac;
        let matters = if ac_matters { !0 } else { !rflags::AC };
        let (flags, rsp) = (state.regs.rflags & matters, state.regs.rsp);
        if let Some((_, name)) = FLAGS.iter().find(|(bit, _)| flags & bit != 0) {
            self.breaks(Invariant::BodyEnvironment, |_| {
                format!("the body begins with {name} set (RFLAGS {:#x})", state.regs.rflags)
            });
        }
        let relies = &self.rules.scheme.relies;
        if relies.dr7 || !relies.msrs.is_empty() {
            let lazy = state.lazy.state();
            let dr7 = lazy.debug.dr7;
            if relies.dr7 && dr7 & DR7_ENABLES != 0 {
                self.breaks(Invariant::BodyEnvironment, |_| {
                    format!("the body begins with a breakpoint armed (DR7 {dr7:#x})")
                });
                return;
            }
            let other = relies.msrs.iter().find(|(number, wanted)| lazy.msrs.value(*number) != Some(*wanted));
            if let Some((number, wanted)) = other.copied() {
                let is = lazy.msrs.value(number).unwrap_or(0);
                self.breaks(Invariant::BodyEnvironment, |_| {
                    format!("the body begins with MSR {number:#x} = {is:#x}; its scheme says {wanted:#x} (body_msr=)")
                });
                return;
            }
        }
        if let Some(declared) = self.rules.guest.image.declared.body.rsp
            && rsp % 16 != u64::from(declared)
        {
            self.breaks(Invariant::BodyEnvironment, |_| {
                format!("the body begins with RSP {rsp:#x}, {} modulo 16; its manifest says {declared}", rsp % 16)
            });
        }
    }
}
