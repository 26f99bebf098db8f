//! A laboratory for x86-64 NMI entry code, on KVM.
