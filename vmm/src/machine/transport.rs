//! What carries a PV guest's hypercalls to the VMM: an OUT, which every KVM has, or Xen's
//! own hypercall page by `KVM_CAP_XEN_HVM`.
//!
//! The guest does not know. It calls and jumps into the page that its manifest names; in
//! the image the page's stubs are OUTs, and for Xen's transport KVM writes its own
//! over them before the guest's first instruction, as a domain's builder does. Both have
//! the same boundaries up to the call: `mov $number, %eax`, and the instruction that
//! leaves.

use super::boot;
use super::error::Error;
use super::layout::{MEASURING_RAM, OWN_CODE};
use crate::image::Guest;
use crate::image::manifest::Mode;
use crate::kvm::{Exit, Host, Vm, XEN_STUB_BYTES};

/// How hypercalls leave the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By an OUT, on every host
    Port,
    /// By the stubs that KVM writes into Xen's hypercall page (KVM_CAP_XEN_HVM)
    Xen,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Port => "port",
            Transport::Xen => "xen",
        })
    }
}

/// The MSR that has KVM write the page; Xen says which by CPUID, and this is its usual
/// choice.
const PAGE_MSR: u32 = 0x4000_0000;
/// What stands at [`OWN_CODE`] while the page is written.
const WRMSR_HLT: [u8; 3] = [0x0f, 0x30, 0xf4];

impl Transport {
    /// What is used on this host where nobody chooses: as its probe answered.
    pub fn of_host(host: &Host) -> Self {
        if host.quirks().xen_page { Transport::Xen } else { Transport::Port }
    }

    /// What this host can carry: the probe.
    pub fn measure(host: &Host) -> Self {
        match host.offers_xen_hypercalls() && works(host).unwrap_or(false) {
            true => Transport::Xen,
            false => Transport::Port,
        }
    }

    /// What a guest of this mode is run with. An error says why what was asked for
    /// cannot be had.
    pub(super) fn choose(host: &Host, guest: &Guest, wanted: Option<Self>, mode: Mode) -> Result<Self, Error> {
        let page = guest.image.declared.hypercalls;
        match wanted {
            _ if mode == Mode::Native => Ok(Transport::Port),
            None if page.is_none() => Ok(Transport::Port),
            None => Ok(Self::of_host(host)),
            Some(Transport::Port) => Ok(Transport::Port),
            Some(Transport::Xen) if page.is_none() => {
                Err(Error::NotReady("its manifest names no hypercall page, which --transport xen needs".into()))
            }
            Some(Transport::Xen) => match Self::of_host(host) {
                Transport::Xen => Ok(Transport::Xen),
                Transport::Port => Err(Error::Host(
                    "it does not hand out Xen's hypercalls (KVM_CAP_XEN_HVM, see `vmm probe`); --transport port \
                     works everywhere"
                        .into(),
                )),
            },
        }
    }
}

/// Has KVM write its stubs to the page at guest-physical `page`. The vCPU's state, which
/// must be that of [`boot::flat`], is as before.
pub(super) fn write_page(vm: &mut Vm, page: u64) -> Result<(), Error> {
    vm.hand_out_xen_hypercalls(PAGE_MSR)?;
    let before = *vm.state();
    let builder = OWN_CODE as usize..OWN_CODE as usize + WRMSR_HLT.len();
    vm.ram_mut()[builder.clone()].copy_from_slice(&WRMSR_HLT);
    let regs = &mut vm.state_mut().regs;
    (regs.rip, regs.rflags) = (OWN_CODE, crate::cpu::rflags::FIXED);
    (regs.rcx, regs.rax, regs.rdx) = (PAGE_MSR.into(), page & 0xffff_ffff, page >> 32);
    let exit = vm.run()?;
    vm.ram_mut()[builder].fill(0);
    *vm.state_mut() = before;
    match exit {
        Exit::Hlt => Ok(()),
        other => Err(Error::Host(format!("it does not write Xen's hypercall page: {other:?}"))),
    }
}

/// Whether a call through the page leaves with its number, and comes back behind itself
/// with every register as it was.
fn works(host: &Host) -> Result<bool, Error> {
    const PAGE: u64 = 0x10_0000;
    const NUMBER: u64 = 77;
    const STACK: u64 = PAGE + 0x2000;
    let mut vm = Vm::new(host, MEASURING_RAM)?;
    boot::flat(&mut vm, &[])?;
    write_page(&mut vm, PAGE)?;
    // The stub ends in RET, which leads to a HLT.
    vm.ram_mut()[OWN_CODE as usize] = WRMSR_HLT[2];
    vm.ram_mut()[STACK as usize..STACK as usize + 8].copy_from_slice(&OWN_CODE.to_le_bytes());
    let regs = &mut vm.state_mut().regs;
    (regs.rip, regs.rsp) = (PAGE + NUMBER * XEN_STUB_BYTES, STACK);
    (regs.rcx, regs.r11, regs.rdi) = (0xc, 0x11, 0xd1);
    let called = vm.run()? == Exit::XenHypercall { number: NUMBER };
    let left = vm.state().regs;
    // Another state is loaded before it goes on, as an NMI's delivery does: at the very
    // call, which must be made again and not be taken for finished.
    vm.state_mut().regs.rip = left.rip - crate::kvm::XEN_CALL_BYTES;
    let again = vm.run()? == Exit::XenHypercall { number: NUMBER } && vm.state().regs == left;
    vm.state_mut().regs.rax = 0x1234;
    let returned = vm.run()? == Exit::Hlt && vm.state().regs.rip == OWN_CODE + 1;
    let r = &vm.state().regs;
    Ok(called && again && returned && (r.rax, r.rcx, r.r11, r.rdi, r.rsp) == (0x1234, 0xc, 0x11, 0xd1, STACK + 8))
}
