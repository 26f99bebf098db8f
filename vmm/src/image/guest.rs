//! An image with what is derived from it, shared by all machines that run it.

use std::sync::{Arc, OnceLock};

use super::code::Code;
use super::file::Image;
use super::lines::Lines;

/// An image with its decoded code, shared by all machines that run it.
#[derive(Debug)]
pub struct Guest {
    /// The image.
    pub image: Image,
    /// Its instructions.
    pub code: Code,
    /// Its source lines, read when they are first asked for.
    lines: OnceLock<Lines>,
}

impl Guest {
    /// Decodes an image's code.
    pub fn new(image: Image) -> Arc<Self> {
        let code = Code::of(&image);
        Arc::new(Self { image, code, lines: OnceLock::new() })
    }

    /// The same image with its code as a machine's boot has left it.
    pub fn with_code(&self, code: Code) -> Arc<Self> {
        Arc::new(Self { image: self.image.clone(), code, lines: OnceLock::new() })
    }

    fn lines(&self) -> &Lines {
        self.lines.get_or_init(|| Lines::of(&self.image))
    }

    /// Whether the image tells source lines.
    pub fn has_source(&self) -> bool {
        !self.lines().is_empty()
    }

    /// `file:line` of an instruction, where the image tells it.
    pub fn source(&self, addr: u64) -> Option<String> {
        let (file, line) = self.lines().at(addr)?;
        Some(format!("{}:{line}", file.rsplit('/').next().unwrap_or(file)))
    }

    /// The source file of an instruction, as the image's DWARF names it, and the line in it.
    pub fn source_line(&self, addr: u64) -> Option<(&str, u32)> {
        self.lines().at(addr)
    }
}
