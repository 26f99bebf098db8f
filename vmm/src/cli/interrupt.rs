//! Ctrl-C: once to stop at the next case, twice to end at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::out::say;

/// What a shell expects of a program that a signal ended: 128 + SIGINT.
const KILLED: i32 = 130;

/// A flag that is set at the first Ctrl-C (or SIGTERM).
pub fn on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let set = ctrlc::set_handler(move || {
        if flag.swap(true, SeqCst) {
            std::process::exit(KILLED);
        }
        say("stopping at the next case; once more to end at once");
    });
    if let Err(e) = set {
        log::warn!("Ctrl-C will end the program at once, without a report: {e}");
    }
    stop
}
