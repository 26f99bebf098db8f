//! `custom`: room for somebody else's entry. The VMM links an object file into it
//! and declares the scheme; without one there is none of this name.
//!
//! The room is filled with a byte that begins no instruction.

use core::arch::global_asm;

use super::{Scheme, fred, naive, xen_flag};
use crate::arch::{fault, vector};

lab_note!(
    "slot native mode=native arg=SCHEME_CUSTOM low=slot_low high=slot_high "
    "data_low=slot_data_low data_high=slot_data_high "
    "hooks=nmi_entry@SCHEME_CUSTOM,db_entry@CUSTOM_FAULTS+0x8,bp_entry@CUSTOM_FAULTS+0x18,ud_entry@CUSTOM_FAULTS+0x30,"
    "gp_entry@CUSTOM_FAULTS+0x68,pf_entry@CUSTOM_FAULTS+0x70"
);
lab_note!(
    "slot pv mode=pv arg=SCHEME_CUSTOM_PV low=slot_low high=slot_high "
    "data_low=slot_data_low data_high=slot_data_high "
    "hooks=nmi_entry@SCHEME_CUSTOM_PV,db_entry@CUSTOM_FAULTS+0x8,bp_entry@CUSTOM_FAULTS+0x18,ud_entry@CUSTOM_FAULTS+0x30,"
    "gp_entry@CUSTOM_FAULTS+0x68,pf_entry@CUSTOM_FAULTS+0x70"
);
lab_note!(
    "slot fred fred mode=pv arg=SCHEME_CUSTOM_FRED low=slot_low high=slot_high "
    "data_low=slot_data_low data_high=slot_data_high "
    "hooks=nmi_entry@SCHEME_CUSTOM_FRED,db_entry@CUSTOM_FAULTS+0x8,bp_entry@CUSTOM_FAULTS+0x18,"
    "ud_entry@CUSTOM_FAULTS+0x30,gp_entry@CUSTOM_FAULTS+0x68,pf_entry@CUSTOM_FAULTS+0x70"
);

// The notes above have these as numbers.
const _: () = {
    const fn at(vector: u8) -> usize {
        vector as usize * size_of::<u64>()
    }
    assert!(core::mem::offset_of!(Scheme, entry) == 0);
    assert!(at(vector::DEBUG) == 0x8 && at(vector::BREAKPOINT) == 0x18 && at(vector::INVALID_OPCODE) == 0x30);
    assert!(at(vector::GENERAL_PROTECTION) == 0x68 && at(vector::PAGE_FAULT) == 0x70);
};

scheme!(SCHEME_CUSTOM = Scheme::native(naive::ENTRY));
scheme!(SCHEME_CUSTOM_PV = Scheme::paravirtual(naive::ENTRY, xen_flag::register, fault::PV));
scheme!(SCHEME_CUSTOM_FRED = fred::at_entry(naive::ENTRY));

/// Bytes for code and constants.
const ROOM: usize = 8192;
/// Bytes for variables that begin as zero.
const DATA: usize = 1024;
/// A byte that is not the beginning of an instruction in 64-bit code.
const NO_INSTRUCTION: u8 = 0x06;

/// By vector, the handlers that the linked object defines; the VMM writes them.
#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static CUSTOM_FAULTS: [u64; vector::EXCEPTIONS] = [0; vector::EXCEPTIONS];

global_asm!(
    r#"
    .section .slot, "a", @progbits
    .globl slot_low, slot_high
slot_low:
    .fill {room}, 1, {no_instruction}
slot_high:
    .section .bss.slot, "aw", @nobits
    .globl slot_data_low, slot_data_high
    .balign 64
slot_data_low:
    .skip {data}
slot_data_high:
    .text
"#,
    room = const ROOM,
    no_instruction = const NO_INSTRUCTION,
    data = const DATA,
    options(att_syntax)
);

/// The handler of `vector` that the linked object defines, if it does and `scheme` is
/// its own.
pub fn handler(scheme: &Scheme, vector: u8) -> Option<u64> {
    let custom = [&raw const SCHEME_CUSTOM, &raw const SCHEME_CUSTOM_PV, &raw const SCHEME_CUSTOM_FRED];
    // The compiler must believe neither these statics' values nor that of the table.
    let vector = usize::from(vector);
    if vector >= vector::EXCEPTIONS || !core::hint::black_box(custom).contains(&(&raw const *scheme)) {
        return None;
    }
    // SAFETY: within the table.
    let address = unsafe { (&raw const CUSTOM_FAULTS).cast::<u64>().wrapping_add(vector).read_volatile() };
    (address != 0).then_some(address)
}
