//! The image that a command tests.

use std::sync::Arc;

use super::args::ImageArgs;
use super::failure::{Failure, is_scarcity};
use super::input;
use crate::image::changes::{Alteration, change};
use crate::image::{Guest, Image, Names};

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
    let image = match &args.entry {
        None => image,
        Some(path) => {
            let (name, bytes) = read(path)?;
            crate::image::link::link(&image, &bytes).map_err(|e| bad(name, &e))?
        }
    };
    args.change.iter().try_fold(Guest::new(image), |guest, text| changed(&guest, text))
}

/// The image with a change: `WHAT@PLACE`.
fn changed(guest: &Guest, text: &str) -> Result<Arc<Guest>, Failure> {
    let wrong = |why: String| Failure::Usage(format!("--change {text:?}: {why}"));
    let words = || Alteration::ALL.map(|a| a.to_string()).join(", ");
    let (what, place) = text.split_once('@').ok_or_else(|| wrong("one reads removed@PLACE".into()))?;
    let what = Alteration::of(what)
        .ok_or_else(|| wrong(format!("there is no change {what:?}; expected one of {}", words())))?;
    let at = Names::new(guest, "").resolve(place).map_err(|e| wrong(e.to_string()))?;
    let change = change(&guest.image, what, at);
    let change = change.ok_or_else(|| wrong(format!("the instruction there cannot be {what}")))?;
    change.of(&guest.image).map(Guest::new).map_err(|e| wrong(e.to_string()))
}
