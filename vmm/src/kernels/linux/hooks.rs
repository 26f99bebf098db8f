//! Functions of the kernel at whose first instruction the VMM looks in: the complaint
//! about an NMI without a source, which is skipped, and what the assists watch.

use super::KernelSymbols;
use crate::cpu::rflags;
use crate::kernels::pc::{Error, Pc, Stop};

/// Where they are, as far as this kernel has them.
#[derive(Clone, Copy, Default)]
pub(in crate::kernels) struct Hooks {
    pub(in crate::kernels) page_fault: Option<u64>,
    pub(in crate::kernels) general_protection: Option<u64>,
    pub(in crate::kernels) syscall: Option<u64>,
    pub(in crate::kernels) unknown_nmi: Option<u64>,
    pub(in crate::kernels) printk: Option<u64>,
}

impl Hooks {
    /// Finds them by their names.
    pub(in crate::kernels) fn of(symbols: &KernelSymbols) -> Self {
        Self {
            page_fault: symbols.any(&["asm_exc_page_fault", "page_fault"]),
            general_protection: symbols.any(&["asm_exc_general_protection", "general_protection"]),
            syscall: symbols.get("entry_SYSCALL_64"),
            unknown_nmi: symbols.any(&["unknown_nmi_error", "unknown_nmi_error.constprop.0"]),
            printk: symbols.any(&["_printk", "printk"]),
        }
    }
}

impl Pc {
    /// Whether `addr` begins a function that is skipped.
    pub(in crate::kernels) fn skips(&self, addr: u64) -> bool {
        if !self.skip_unknown_nmi || self.frozen.is_none() {
            return false;
        }
        match self.hooks.unknown_nmi {
            Some(function) => function == addr,
            None if self.hooks.printk == Some(addr) => {
                let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
                let caller = self.symbols.show(self.memory().word(cr3, rsp).unwrap_or(0));
                // Without the offset, and without `.cold` and its like.
                let function = caller.split(['+', '.']).next().unwrap_or("");
                ["default_do_nmi", "exc_nmi", "do_nmi"].contains(&function)
            }
            None => false,
        }
    }

    /// Leaves the function at whose first instruction execution stands.
    pub(in crate::kernels) fn return_from_function(&mut self) {
        let (rsp, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        if let Some(to) = self.memory().word(cr3, rsp) {
            let regs = &mut self.vm.state_mut().regs;
            (regs.rip, regs.rsp) = (to, rsp + 8);
        }
    }

    /// Gets past a hook that had nothing to do.
    pub(in crate::kernels) fn pass(&mut self) -> Result<Option<Stop>, Error> {
        use iced_x86::Mnemonic;
        let Some(d) = self.next_instruction() else { return Ok(None) };
        let regs = &mut self.vm.state_mut().regs;
        match d.insn.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 => {}
            Mnemonic::Cld => regs.rflags &= !rflags::DF,
            _ => {
                self.passing = Some(self.rip());
                let stop = self.step();
                self.passing = None;
                return Ok(match stop? {
                    Stop::At(_) => None,
                    other => Some(other),
                });
            }
        }
        regs.rip = d.insn.next_ip();
        Ok(None)
    }
}
