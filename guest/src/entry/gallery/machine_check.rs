//! Three machine-check handlers and a #DB handler that are wrong, under the plain NMI handler of
//! `naive`, which is their twin: its machine checks have a stack of their own, ask whose GS they
//! have, and give all back; its #DB comes on the interrupted stack.
//!
//! - `bug-mce-stack`: its gate names the NMI stack: a machine check in an NMI's handler overwrites
//!   that NMI's frame (the reason why Linux has an IST entry for each).
//! - `bug-mce-gs`: swaps GS by the privilege level of what it interrupted. Between SYSCALL's entry
//!   and its swapgs it writes through the user's base (Linux has `paranoid_entry` for it).
//! - `bug-mce-rbx`: does not give RBX back.
//! - `bug-db-nmi-stack`: #DB's gate names the NMI stack: a breakpoint that hits in an NMI's handler
//!   overwrites that NMI's frame.

use crate::arch::{external, gdt};
use crate::entry::{Scheme, naive};

lab_note!(
    "scheme bug-mce-stack mode=native arg=SCHEME_BUG_MCE_STACK entry=naive.entry prefix=naive. "
    "gallery=mce-ist summary=\"machine checks run on the NMI stack\""
);
lab_note!(
    "scheme bug-mce-gs mode=native arg=SCHEME_BUG_MCE_GS entry=naive.entry prefix=naive. "
    "gallery=mce-paranoid summary=\"machine checks swap GS by the privilege level that they interrupted\""
);
lab_note!(
    "scheme bug-mce-rbx mode=native arg=SCHEME_BUG_MCE_RBX entry=naive.entry prefix=naive. "
    "gallery=mce-context summary=\"machine checks lose RBX\""
);
lab_note!(
    "scheme bug-db-nmi-stack mode=native arg=SCHEME_BUG_DB_NMI_STACK entry=naive.entry prefix=naive. "
    "gallery=db-ist summary=\"#DB runs on the NMI stack\""
);

const NAIVE: Scheme = Scheme::native(naive::ENTRY);

scheme!(SCHEME_BUG_MCE_STACK = Scheme { machine_check_ist: gdt::IST_NMI, ..NAIVE });
scheme!(SCHEME_BUG_MCE_GS = Scheme { machine_check: external::GS_BY_CS, ..NAIVE });
scheme!(SCHEME_BUG_MCE_RBX = Scheme { machine_check: external::LOSES_RBX, ..NAIVE });
scheme!(SCHEME_BUG_DB_NMI_STACK = Scheme { debug_ist: gdt::IST_NMI, ..NAIVE });
