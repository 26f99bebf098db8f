//! What the tests of the whole program share, which are in `tests/`.

pub mod elf;
pub mod fuzz;
pub mod mutants;
