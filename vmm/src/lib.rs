//! A laboratory for x86-64 NMI entry code, on KVM.
//!
//! The rooms, from the top down: [`cli`] reads the command line; [`campaign`] turns a
//! file into runs and [`report`] shows what came of them; [`inject`] carries out
//! schedules and asks [`oracle`] for verdicts; both stand on [`machine`], which
//! stands on [`kvm`]. [`explore`] searches every pattern of arrivals; [`probe`] and [`bench`]
//! measure the host beside them.

pub mod bench;
pub mod campaign;
pub mod cli;
pub mod compare;
pub mod cpu;
pub mod explore;
pub mod host_id;
pub mod image;
pub mod inject;
pub mod kernels;
pub mod kvm;
pub mod machine;
pub mod oracle;
pub mod probe;
pub mod report;
