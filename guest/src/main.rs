//! The micro-kernel: what NMIs interrupt in the lab.
//!
//! It boots into long mode in the high half, announces *ready*, does a
//! scenario's work while the VMM injects NMIs, and announces the end with a
//! checksum. No state is kept that only grows: a kernel that counts its NMIs has
//! no finite set of states to explore.
//!
//! No code here may hold instructions that a KVM without hardware support
//! cannot emulate (SSE, int3, …): copies are made in words, by own routines, and
//! a test disassembles the image.
#![no_std]
#![no_main]

#[macro_use]
mod asm;
#[macro_use]
mod note;

mod arch;
mod boot;
mod entry;
mod heap;
mod hyper;
mod mm;
mod panic;
mod scenario;
mod string;

lab_note!("abi 1");
lab_note!("ram 4194304");
