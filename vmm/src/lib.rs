//! A laboratory for x86-64 NMI entry code, on KVM.
//!
//! The rooms, from the top down. A room uses only those below it, and no files of one room use
//! each other in a circle; `tests/tests/house` checks both.
//!
//! - [`cli`] reads the command line, and [`report`] shows what came of it. [`sandbox`] confines the
//!   process in between.
//! - [`campaign`] turns a file into runs. [`compare`] and [`bench`] measure costs and times.
//!   [`necessity`] changes each instruction of an entry path, and says what breaks.
//! - [`debug`] shows one run to gdb.
//! - [`explore`] searches every pattern of arrivals.
//! - [`kernels`] runs real kernels on a machine of its own.
//! - [`inject`] carries out schedules and asks the [`oracle`] for verdicts.
//! - [`probe`] measures what the host's KVM does.
//! - [`folder`] keeps results of campaigns, and runs their units on threads.
//! - [`machine`] runs a guest [`image`], by [`kvm`] or by the model in [`cpu`].
#![deny(unsafe_code)] // [`kvm`] alone may

pub mod bench;
pub mod campaign;
pub mod cli;
pub mod compare;
pub mod cpu;
pub mod debug;
pub mod explore;
pub mod folder;
pub mod host_id;
pub mod image;
pub mod inject;
pub mod kernels;
#[expect(unsafe_code, reason = "the only room that talks to the kernel")]
pub mod kvm;
pub mod machine;
pub mod necessity;
pub mod oracle;
pub mod probe;
pub mod report;
pub mod sandbox;
