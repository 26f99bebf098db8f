//! Five ways to be wrong about CR3 where user code has page tables of its own (scenario `user-kpti`).
//! At CPL0 an NMI may find the user's table: between SYSCALL and the load of the kernel's, and
//! between the load of the user's and SYSRET or iretq.
//!
//! - `bug-kpti-none`: loads no CR3: the entry of `naive`, as before Linux 4.15.
//! - `bug-kpti-cs`: loads the kernel's CR3 where user code was interrupted, and at CPL0 never.
//! - `bug-kpti-kernel-back`: at CPL0 the kernel's CR3 stays, though the user's was found.
//! - `bug-kpti-user-back`: at CPL0 the user's CR3 is loaded on the way back, though the kernel's may
//!   have been found.
//! - `bug-kpti-stale`: at CPL0 loads a kernel's CR3 that boot remembered, whatever process runs.
//!
//! The code is in mainline.rs, which is their twin: its `SAVE_AND_SWITCH_TO_KERNEL_CR3` and
//! `RESTORE_CR3` are what each of them lacks a part of.

use crate::entry::{Scheme, naive};

lab_note!(
    "scheme bug-kpti-none kpti mode=native arg=SCHEME_BUG_KPTI_NONE entry=naive.entry prefix=naive. "
    "gallery=8a09317b895f summary=\"KPTI: loads no CR3\""
);
lab_note!(
    "scheme bug-kpti-cs kpti mode=native arg=SCHEME_BUG_KPTI_CS entry=bug_kpti_cs.entry prefix=bug_kpti_cs. "
    "repeat=bug_kpti_cs.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "gallery=8a09317b895f summary=\"KPTI: loads CR3 where user code was interrupted only\""
);
lab_note!(
    "scheme bug-kpti-kernel-back kpti mode=native arg=SCHEME_BUG_KPTI_KERNEL_BACK entry=bug_kpti_kernel_back.entry "
    "prefix=bug_kpti_kernel_back. repeat=bug_kpti_kernel_back.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "gallery=8a09317b895f summary=\"KPTI: the kernel's CR3 stays where the user's was found\""
);
lab_note!(
    "scheme bug-kpti-user-back kpti mode=native arg=SCHEME_BUG_KPTI_USER_BACK entry=bug_kpti_user_back.entry "
    "prefix=bug_kpti_user_back. repeat=bug_kpti_user_back.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "gallery=8a09317b895f summary=\"KPTI: gives back the user's CR3 where the kernel's was found\""
);
lab_note!(
    "scheme bug-kpti-stale kpti mode=native arg=SCHEME_BUG_KPTI_STALE entry=bug_kpti_stale.entry prefix=bug_kpti_stale. "
    "repeat=bug_kpti_stale.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "gallery=8a09317b895f summary=\"KPTI: loads a kernel's CR3 of another process\""
);

scheme!(SCHEME_BUG_KPTI_NONE = Scheme::native(naive::ENTRY));
scheme!(SCHEME_BUG_KPTI_CS = Scheme::native(handler!("bug_kpti_cs.entry")));
scheme!(SCHEME_BUG_KPTI_KERNEL_BACK = Scheme::native(handler!("bug_kpti_kernel_back.entry")));
scheme!(SCHEME_BUG_KPTI_USER_BACK = Scheme::native(handler!("bug_kpti_user_back.entry")));
scheme!(SCHEME_BUG_KPTI_STALE = Scheme::native(handler!("bug_kpti_stale.entry")));
