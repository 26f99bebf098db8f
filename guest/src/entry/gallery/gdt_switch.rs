//! `bug-gdt-switch`: naive entry code in a kernel whose context switch loads CR3 while GDTR
//! still names the old address space's mapping of the GDT (Xen 27a9d6d6143f). Seen in the
//! scenario `gdt-switch`; the twin is `naive` itself, whose kernel goes by way of a mapping
//! that all address spaces have.

use crate::arch::gdt_switch;
use crate::entry::{Scheme, naive};

lab_note!(
    "scheme bug-gdt-switch mode=native arg=SCHEME_BUG_GDT_SWITCH entry=naive.entry prefix=naive. "
    "gallery=27a9d6d6143f summary=\"a context switch with no GDT between CR3 and GDTR\""
);

scheme!(SCHEME_BUG_GDT_SWITCH = Scheme { setup: gdt_switch::leave_window, ..Scheme::native(naive::ENTRY) });
