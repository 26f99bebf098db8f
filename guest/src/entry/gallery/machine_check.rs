//! Three machine-check handlers that are wrong, under the plain NMI handler of `naive`, which is
//! their twin: its own has a stack of its own, asks whose GS it has, and gives all back.
//!
//! - `bug-mce-stack`: its gate names the NMI stack: a machine check in an NMI's handler overwrites
//!   that NMI's frame (the reason why Linux has an IST entry for each).
//! - `bug-mce-gs`: swaps GS by the privilege level of what it interrupted. Between SYSCALL's entry
//!   and its swapgs it writes through the user's base (Linux has `paranoid_entry` for it).
//! - `bug-mce-rbx`: does not give RBX back.

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

const NAIVE: Scheme = Scheme::native(naive::ENTRY);

scheme!(SCHEME_BUG_MCE_STACK = Scheme { machine_check_ist: gdt::IST_NMI, ..NAIVE });
scheme!(SCHEME_BUG_MCE_GS = Scheme { machine_check: external::GS_BY_CS, ..NAIVE });
scheme!(SCHEME_BUG_MCE_RBX = Scheme { machine_check: external::LOSES_RBX, ..NAIVE });
