//! Threads that take units of work from one queue.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use super::error::Error;

/// What came of one unit.
pub struct Ended<U> {
    /// Its number.
    pub unit: u64,
    /// What came of its cases.
    pub result: U,
    /// How long it took.
    pub took: Duration,
    /// Whether all of its cases were run.
    pub whole: bool,
}

/// A thread's hold on the queue.
pub struct Queue<'a, U, E> {
    pending: &'a [u64],
    next: &'a AtomicUsize,
    stop: &'a AtomicBool,
    send: Sender<Result<Ended<U>, E>>,
}

impl<'a, U, E> Queue<'a, U, E> {
    /// The next unit, ascending; `None` when there is none, or when all is to stop.
    pub fn take(&self) -> Option<u64> {
        if self.stop.load(Relaxed) {
            return None;
        }
        self.pending.get(self.next.fetch_add(1, Relaxed)).copied()
    }

    /// Hands in what came of a unit.
    pub fn ended(&self, ended: Ended<U>) {
        // The receiver outlives us; were it gone, nobody would want the result.
        let _ = self.send.send(Ok(ended));
    }

    /// Set from outside to stop at the next case.
    pub fn stop(&self) -> &'a AtomicBool {
        self.stop
    }
}

/// What a thread does: takes units until there are no more.
pub type Work<'w, U, E> = dyn Fn(&Queue<'_, U, E>) -> Result<(), E> + Sync + 'w;

/// Runs `pending` units, ascending, on `jobs` threads, until they are done or `stop` is
/// set. `on_unit` is called on this thread, in the order in which units end.
pub fn run<U: Send, E: From<Error> + Send>(
    pending: &[u64],
    jobs: usize,
    stop: &AtomicBool,
    work: &Work<'_, U, E>,
    on_unit: &mut dyn FnMut(Ended<U>) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (send, receive) = channel();
        let mut failure: Option<E> = None;
        let jobs = jobs.min(pending.len());
        for number in 1..=jobs {
            let queue = Queue { pending, next: &next, stop, send: send.clone() };
            let thread = move || {
                if let Err(e) = work(&queue) {
                    let _ = queue.send.send(Err(e));
                }
            };
            if let Err(why) = Builder::new().spawn_scoped(scope, thread) {
                stop.store(true, Relaxed);
                failure = Some(Error::Thread { number, jobs, why }.into());
                break;
            }
        }
        drop(send);
        for message in receive {
            let ended = message.and_then(|unit| if failure.is_none() { on_unit(unit) } else { Ok(()) });
            if let Err(e) = ended {
                stop.store(true, Relaxed);
                failure.get_or_insert(e);
            }
        }
        failure.map_or(Ok(()), Err)
    })
}
