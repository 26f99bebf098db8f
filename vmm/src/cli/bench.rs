//! `vmm bench`: what things cost on this host.

use std::sync::Arc;

use clap::Args;

use super::failure::{Ending, Failure};
use super::out::Out;
use crate::bench;
use crate::machine::Guest;
use crate::target::Target;

/// `vmm bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The scheme to run
    #[arg(long, value_name = "S", default_value = "mainline")]
    pub scheme: String,
    /// The scenario to run
    #[arg(long, value_name = "C", default_value = "vmalloc-fault")]
    pub scenario: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries out `vmm bench`.
pub fn run(args: &Bench, guest: &Arc<Guest>, out: &mut Out) -> Result<Ending, Failure> {
    let target = Target::find(&guest.image.declared, &args.scheme, &args.scenario, None)?;
    let host = super::host::open()?;
    let mut tell = |what: &str| log::info!("measuring: {what}");
    let measured = bench::bench(&host, guest, (&target.scheme, &target.scenario), &mut tell)?;
    match args.json {
        true => out.json(&measured)?,
        false => out.text(&measured.to_string())?,
    }
    Ok(Ending::Expected)
}
