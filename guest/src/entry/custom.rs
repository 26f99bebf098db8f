//! `custom`: room for somebody else's entry. The VMM links an object file into it
//! and declares the scheme; without one there is none of this name.
//!
//! The room is filled with a byte that begins no instruction (0x06).

use core::arch::global_asm;

use super::{Scheme, naive, xen_flag};
use crate::arch::fault;

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

const _: () = assert!(core::mem::offset_of!(Scheme, entry) == 0, "the manifest says so");

scheme!(SCHEME_CUSTOM = Scheme::native(naive::ENTRY));
scheme!(SCHEME_CUSTOM_PV = Scheme::paravirtual(naive::ENTRY, xen_flag::register, fault::PV));

/// Vectors below this may be taken over.
const VECTORS: usize = 32;

/// By vector, the handlers that the linked object defines; the VMM writes them.
#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static CUSTOM_FAULTS: [u64; VECTORS] = [0; VECTORS];

global_asm!(
    r#"
    .section .slot, "a", @progbits
    .globl slot_low, slot_high
slot_low:
    .fill 8192, 1, 0x06
slot_high:
    .section .bss.slot, "aw", @nobits
    .globl slot_data_low, slot_data_high
    .balign 64
slot_data_low:
    .skip 256
slot_data_high:
    .text
"#,
    options(att_syntax)
);

/// The handler of `vector` that the linked object defines, if it does and `scheme` is
/// its own.
pub fn handler(scheme: &Scheme, vector: usize) -> Option<u64> {
    let custom = [&raw const SCHEME_CUSTOM, &raw const SCHEME_CUSTOM_PV];
    // The compiler must believe neither these statics' values nor that of the table.
    if vector >= VECTORS || !core::hint::black_box(custom).contains(&(&raw const *scheme)) {
        return None;
    }
    // SAFETY: within the table.
    let address = unsafe { (&raw const CUSTOM_FAULTS).cast::<u64>().wrapping_add(vector).read_volatile() };
    (address != 0).then_some(address)
}
