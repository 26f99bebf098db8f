//! `--alive PORT|SYMBOL`: what shows that a kernel lives.

use super::failure::Failure;
use crate::kernels::pc::KernelSymbols;
use crate::kernels::{Alive, LabError, resolve};

/// What it is, and the port that is written to then; 0 where it is none.
pub fn alive(text: &str, symbols: &KernelSymbols) -> Result<(Alive, u16), Failure> {
    let port = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    match port {
        Some(0) => Err(Failure::Usage("port 0 is the DMA controller's: --alive needs another".into())),
        Some(port) => Ok((Alive::Heartbeat, port)),
        None => Ok((Alive::At(resolve(text, symbols).map_err(LabError::Site)?), 0)),
    }
}
