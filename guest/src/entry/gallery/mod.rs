//! Bugs of history, each as the smallest variant that has it, next to a repaired twin
//! that differs in that one thing. The manifest's `gallery=` names the commit or the
//! words by which the bug is known; `vmm list schemes` shows them with `--all`.
//!
//! They are found by injecting everywhere, without a hint at where; the campaign
//! `history.toml` does so. Bugs of hypervisors are in the VMM, chosen by `--hv-bug`.

mod debug_stack;
mod gdt_switch;
mod ist_index;
mod kpti;
mod machine_check;
mod ring3;
mod rostedt;
mod switched_state;
