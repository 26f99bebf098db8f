//! The image that a command tests.

use std::sync::Arc;

use super::args::ImageArgs;
use super::failure::{Failure, is_scarcity};
use super::input;
use crate::image::{Guest, Image};

/// The image to test.
pub fn load(args: &ImageArgs) -> Result<Arc<Guest>, Failure> {
    let read = |path: &std::path::Path| {
        let name = path.display().to_string();
        match input::bytes(path, input::MOST_IMAGE) {
            Ok(bytes) => Ok((name, bytes)),
            Err(why) if is_scarcity(&why) => Err(Failure::Scarce { name, why }),
            Err(e) => Err(Failure::Image { name, why: e.to_string() }),
        }
    };
    let bad = |name: String, why: &dyn std::fmt::Display| Failure::Image { name, why: why.to_string() };
    let image = match &args.guest {
        None => Image::builtin().map_err(|e| bad("(built in)".to_owned(), &e))?,
        Some(path) => {
            let (name, bytes) = read(path)?;
            Image::parse(&bytes).map_err(|e| bad(name, &e))?
        }
    };
    let Some(path) = &args.entry else { return Ok(Guest::new(image)) };
    let (name, bytes) = read(path)?;
    crate::image::link::link(&image, &bytes).map(Guest::new).map_err(|e| bad(name, &e))
}
