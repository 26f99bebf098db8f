//! `vmm bench`: what things cost on this host.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::Out;
use super::output::OutputArgs;
use crate::bench;
use crate::image::Guest;
use crate::image::target::Target;
use crate::machine::Knobs;
use crate::report::Kind;

/// `vmm bench`.
#[derive(Debug, Args)]
#[command(mut_arg("kernel", |a| a.requires("linux")))]
pub struct Bench {
    /// Measure cases on a real Linux kernel instead [default kernel: that of
    /// scripts/linux/build-test-kernel]
    #[arg(long, conflicts_with_all = ["scheme", "scenario", "guest", "entry", "transport"])]
    pub linux: bool,
    /// With --linux: also time whole sweeps at three sites, and a search (a minute)
    #[arg(long, requires = "linux")]
    pub whole: bool,
    /// The scheme to run
    #[arg(long, value_name = "S", default_value = "mainline")]
    pub scheme: String,
    /// The scenario to run
    #[arg(long, value_name = "C", default_value = "vmalloc-fault")]
    pub scenario: String,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The kernel to measure on.
    #[command(flatten)]
    pub kernel: super::linux::KernelArgs,
}

/// Carries out `vmm bench`.
pub fn run(args: &Bench, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::TELLS)?;
    if args.linux {
        return linux(args, opened, out);
    }
    let target = Target::find(&guest.image.declared, &args.scheme, &args.scenario, None)?;
    let sandbox_ns = opened.cost_ns();
    let host = opened.host()?;
    let knobs = Knobs { transport: args.guest.transport, ..Knobs::default() };
    let mut tell = |what: &str| log::info!("measuring: {what}");
    let measured = bench::bench(&host, guest, (&target.scheme, &target.scenario), knobs, sandbox_ns, &mut tell)?;
    outputs.write(&measured, out)?;
    Ok(Ending::Expected)
}

/// Cases on a real kernel.
fn linux(args: &Bench, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let mut kernel = args.kernel.clone();
    if kernel.kernel.is_none() {
        let file = crate::kernels::kernel_cache().join("vmlinux");
        if !file.exists() {
            let why = "no --kernel, and no test kernel there (scripts/linux/build-test-kernel builds it)";
            return Err(Failure::Input { name: file.display().to_string(), why: why.into() });
        }
        kernel.kernel = Some(file);
    }
    let mut booted = kernel.boot(&super::boot::Plan::default(), opened, &AtomicBool::new(false))?;
    let kvm_run_ns = bench::kvm_run(&booted.host)?;
    let measured = crate::kernels::bench(&mut booted.lab, booted.info, kvm_run_ns, args.whole)?;
    args.output.outputs(Kind::TELLS)?.write(&measured, out)?;
    Ok(Ending::Expected)
}
