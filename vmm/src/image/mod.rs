//! A guest image as data: its ELF file, the notes by which it declares schemes and
//! scenarios, its symbols and code, and the names of its boundaries. Nothing here runs it.

mod body;
pub mod changes;
mod check;
pub mod code;
mod debugger;
pub mod declare;
mod elf;
pub mod error;
pub mod file;
mod guest;
mod lines;
pub mod link;
pub mod manifest;
mod names;
mod need;
mod read;
mod resolver;
pub mod symbols;
pub mod target;
pub mod vectors;

pub use body::PageTables;
pub use code::{Code, Decoded, Flow};
pub use elf::Segment;
pub use file::Image;
pub use guest::Guest;
pub use manifest::Mode;
pub use names::{Names, PlaceError};
pub use need::Need;
pub use vectors::Trap;
