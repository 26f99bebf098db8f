//! whole-program tests live in `tests/`.
