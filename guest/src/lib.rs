//! What the guest and the VMM share: the contract, and nothing else.
#![no_std]

pub mod abi;
