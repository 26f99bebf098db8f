//! `eager-sync` and `fixed-entry`: no vmalloc fault ever, the naive entry.
//!
//! **Idea.** Lower page tables are shared, so only a new top-level entry can be
//! missing from a root. `eager-sync` walks every root when vmalloc adds one,
//! under a lock that keeps fork from making a root in between. `fixed-entry`
//! never adds one: a single entry is filled before any process exists.
//!
//! **Cost.** Nothing on the NMI's path; a store for each process at vmalloc time,
//! which happens once per 512 GiB on x86-64 (`eager-sync`), or an address space
//! of one entry (`fixed-entry`).
//!
//! **Known weaknesses.** Only vmalloc faults are gone. Every other exception in
//! the body (#UD, #BP, #DB, #MC) still returns by iretq, and then this is
//! `naive`.
//!
//! Source: the LKML thread of July 2010, where both are named as alternatives to
//! taking the fault.

use super::{Scheme, naive};
use crate::mm::vmalloc::Policy;

lab_note!(
    "scheme eager-sync mode=native arg=SCHEME_EAGER_SYNC entry=naive.entry prefix=naive. "
    "summary=\"naive, and vmalloc walks every root\""
);
lab_note!(
    "scheme fixed-entry mode=native arg=SCHEME_FIXED_ENTRY entry=naive.entry prefix=naive. "
    "summary=\"naive, and one top-level entry for all of vmalloc\""
);

scheme!(SCHEME_EAGER_SYNC = Scheme { policy: Policy::Eager, ..Scheme::native(naive::ENTRY) });
scheme!(SCHEME_FIXED_ENTRY = Scheme { policy: Policy::Fixed, ..Scheme::native(naive::ENTRY) });
