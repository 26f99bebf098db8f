//! `bug-ist-index`: the NMI's gate names the stack of #DF (Xen d358f56e36f7 was an IST
//! index off by one). That stack is made for a handler that only stops: an NMI's
//! registers run over its lower end. The twin is `naive` itself.

use crate::arch::gdt;
use crate::entry::{Scheme, naive};

lab_note!(
    "scheme bug-ist-index mode=native arg=SCHEME_BUG_IST_INDEX entry=naive.entry prefix=naive. "
    "gallery=d358f56e36f7 summary=\"NMIs run on the stack of #DF\""
);

scheme!(SCHEME_BUG_IST_INDEX = Scheme { ist: gdt::IST_DOUBLE_FAULT, ..Scheme::native(naive::ENTRY) });
