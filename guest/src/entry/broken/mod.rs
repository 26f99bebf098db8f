//! Schemes that are broken on purpose: for each rule of the oracle one that breaks
//! it, and no other before it. A rule that none of these trips is not a rule.
//!
//! Each but those of I15 is the plain CPL0 handler of the macros `NMI_PROLOGUE`, `NMI_BODY` and
//! `NMI_EPILOGUE` with one thing wrong, so it shows in any scenario without user code,
//! by one NMI (`broken-i5`: two). Faults in the body open NMIs as in `naive`; the scenario
//! to judge them in is `quiet`.
//!
//! I1 and I2 are the host's and the VMM's duties, which no guest can break: `vmm run --hv-bug`
//! breaks them.

mod i10;
mod i10_swapgs;
mod i11;
mod i12;
mod i13;
mod i14;
mod i15;
mod i16;
mod i16_body;
mod i17;
mod i18;
mod i21;
mod i3;
mod i4;
mod i5;
mod i6;
mod i7;
mod i8;
mod i9;
mod values;
