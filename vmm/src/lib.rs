//! A laboratory for x86-64 NMI entry code, on KVM.
//!
//! The rooms, from the top down: [`inject`] carries out schedules and asks
//! [`oracle`] for verdicts; both stand on [`machine`], which stands on [`kvm`].

pub mod explore;
pub mod inject;
pub mod kvm;
pub mod linux;
pub mod machine;
pub mod oracle;
