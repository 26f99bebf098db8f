//! The user wants an end: what every run in this process asks now and then.
//!
//! A command looks at its own flag between cases; one case can be long, where it is stepped to
//! find out whether it ends at all.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on runs end with [`Error::Interrupted`](crate::machine::Error::Interrupted).
pub fn request() {
    REQUESTED.store(true, Relaxed);
}

/// Whether an end was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Relaxed)
}
