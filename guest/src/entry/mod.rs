//! Entry schemes: ways to enter and leave an NMI. One file each, with a
//! descriptor that the VMM picks by the manifest's `arg`.

use guest::abi;

use crate::arch::fault::{self, Handlers};
use crate::arch::{external, gdt, pv_user};
use crate::asm::Handler;
use crate::mm::vmalloc::Policy;
use crate::{hyper, scenario};

/// Declares the descriptor of a scheme, which the VMM finds by its name.
macro_rules! scheme {
    ($name:ident = $value:expr) => {
        #[unsafe(no_mangle)]
        #[used]
        #[unsafe(link_section = ".rodata.lab")]
        static $name: $crate::entry::Scheme = $value;
    };
}

mod broken;
mod custom;
mod fred;
mod gallery;
pub mod gates;
mod latch;
mod linus_2010;
mod linus_2010_first;
mod linus_2010_fixed;
mod mainline;
mod naive;
mod nmi_safe_return;
mod rostedt_2012;
mod sync_policies;
mod xen_always;
mod xen_bit31;
mod xen_flag;

/// A scheme. The VMM passes the address of one to boot.
#[repr(C)]
pub struct Scheme {
    /// The NMI's handler: of the IDT's gate, or of the hypervisor's callback.
    pub entry: Handler,
    /// The handler of #GP, where the scheme needs one.
    pub general_protection: Option<Handler>,
    /// The hypervisor owns the NMI mask (mode `pv`): how it learns of the scheme.
    pub pv: Option<Register>,
    /// How top-level vmalloc entries reach the roots.
    pub policy: Policy,
    /// The handlers of #DB, #BP, #UD, #NP and #PF.
    pub faults: Handlers,
    /// What else it sets up at boot: its way into user mode, and what it does otherwise.
    pub setup: fn(),
    /// The stack of the NMI's gate; 0: the interrupted one.
    pub ist: u8,
    /// The stack of the #DB's gate; 0: the interrupted one.
    pub debug_ist: u8,
    /// The handler of machine checks.
    pub machine_check: Handler,
    /// The stack of its gate.
    pub machine_check_ist: u8,
    /// Its entry where user code has page tables of its own, if that is another. Linux has one
    /// that boot patches.
    pub split_entry: Option<Handler>,
}

impl Scheme {
    /// A native scheme on the NMI stack, with lazy vmalloc, faults that return by
    /// iretq and no #GP handler.
    pub const fn native(entry: Handler) -> Self {
        Self {
            entry,
            general_protection: None,
            pv: None,
            policy: Policy::Lazy,
            faults: fault::NATIVE,
            setup: || (),
            ist: gdt::IST_NMI,
            debug_ist: 0,
            machine_check: external::MACHINE_CHECK,
            machine_check_ist: gdt::IST_CHECK,
            split_entry: None,
        }
    }

    /// A scheme of mode `pv` with lazy vmalloc. The handlers of its faults differ in how
    /// they return.
    pub const fn paravirtual(entry: Handler, register: Register, faults: Handlers) -> Self {
        Self { pv: Some(register), faults, setup: pv_user::init, ..Self::native(entry) }
    }

    /// The same with a handler of #GP, for returns that the hypervisor refuses.
    pub const fn refused_by(self, handler: Handler) -> Self {
        Self { general_protection: Some(handler), ..self }
    }
}

/// Tells the hypervisor a scheme's entry and what its returns mean; zero, or a negative
/// error number.
pub type Register = fn(Handler) -> i64;

/// The last step of boot: in mode `pv` the hypervisor learns the handler.
pub fn install(scheme: &Scheme) {
    if let Some(register) = scheme.pv {
        let error = register(scheme.entry);
        assert!(error == 0, "the hypervisor refused the NMI callback: {error}");
    }
}

// Where it makes its first hypercall, the function below has pushed one word after its return
// address.
lab_note!("body rsp=0");

/// The body of an NMI, which every scheme calls with the interrupted context.
/// It leaves no trace in memory: no counter, no log.
#[unsafe(no_mangle)]
#[inline(never)]
extern "sysv64" fn nmi_body(regs: *const abi::Regs) {
    hyper::body_begin(regs);
    (scenario::current().body)();
    hyper::body_end();
}
