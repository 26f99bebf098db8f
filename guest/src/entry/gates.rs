//! The gates that a scheme asks for.

use super::{Scheme, custom};
use crate::arch::idt::Gate;
use crate::arch::{external, gdt, vector};
use crate::asm::Handler;

/// Where `vector` leads with `scheme`; `split`: user code has page tables of its own. What it does not handle has a HLT of its own.
pub fn gate(scheme: &Scheme, split: bool, vector: u8) -> Gate {
    let faults = &scheme.faults;
    let (handler, ist): (Option<Handler>, u8) = match vector {
        // In mode pv the CPU never delivers an NMI: the hypervisor calls.
        vector::NMI if scheme.pv.is_none() => {
            (Some(scheme.split_entry.filter(|_| split).unwrap_or(scheme.entry)), scheme.ist)
        }
        // Nor does it deliver these, which are the hypervisor's.
        vector::MACHINE_CHECK if scheme.pv.is_none() => (Some(scheme.machine_check), scheme.machine_check_ist),
        vector::INTERRUPT if scheme.pv.is_none() => (Some(external::INTERRUPT), 0),
        vector::DEBUG => (Some(faults.debug), scheme.debug_ist),
        vector::BREAKPOINT => (Some(faults.breakpoint), 0),
        vector::INVALID_OPCODE => (Some(faults.invalid_opcode), 0),
        vector::DOUBLE_FAULT => (None, gdt::IST_DOUBLE_FAULT),
        vector::SEGMENT_NOT_PRESENT => (Some(faults.segment_not_present), 0),
        vector::GENERAL_PROTECTION => (scheme.general_protection, 0),
        vector::PAGE_FAULT => (Some(faults.page_fault), 0),
        _ => (None, 0),
    };
    let address = |handler: Handler| handler as *const () as u64;
    Gate { target: custom::handler(scheme, vector).or(handler.map(address)), ist }
}
