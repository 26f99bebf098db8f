//! Work that is shared among threads, with results that do not depend on how many there are.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::Builder;

use super::config::Error;

/// Does pieces `0..count` of some work, each by the worker that is free first. The results are in the
/// order of the pieces, up to the first that `ends` it or fails: what comes after it is left out,
/// whether it was done or not.
pub fn in_order<W: Send, R: Send>(
    workers: &mut [W],
    count: usize,
    work: impl Fn(&mut W, usize) -> Result<R, Error> + Sync,
    ends: impl Fn(&R) -> bool + Sync,
) -> Result<Vec<R>, Error> {
    let (next, last) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let take = |worker: &mut W| {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Relaxed);
            if i >= count || i > last.load(Relaxed) {
                return done;
            }
            let result = work(worker, i);
            if result.as_ref().map_or(true, &ends) {
                last.fetch_min(i, Relaxed);
            }
            done.push((i, result));
        }
    };
    let mut done = if workers.len() < 2 || count < 2 {
        workers.iter_mut().take(1).flat_map(take).collect()
    } else {
        std::thread::scope(|scope| {
            let take = &take;
            let start = |worker| Builder::new().spawn_scoped(scope, move || take(worker));
            let threads: Vec<_> = workers.iter_mut().take(count).map(start).collect();
            let mut done = Vec::with_capacity(count);
            for thread in threads {
                let thread = thread
                    .map_err(|why| crate::machine::Error::Host(format!("a thread could not be started: {why}")))?;
                match thread.join() {
                    Ok(part) => done.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok::<_, Error>(done)
        })?
    };
    done.sort_unstable_by_key(|(i, _)| *i);
    let last = last.into_inner();
    done.into_iter().take_while(|(i, _)| *i <= last).map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_one_worker() {
        let square = |_: &mut (), i: usize| Ok(i * i);
        for workers in 1..4 {
            let mut workers = vec![(); workers];
            let all = in_order(&mut workers, 100, square, |_| false).unwrap();
            assert_eq!(all, (0..100).map(|i| i * i).collect::<Vec<_>>());
            let some = in_order(&mut workers, 100, square, |r| *r == 49 || *r == 100).unwrap();
            assert_eq!(some, [0, 1, 4, 9, 16, 25, 36, 49]);
            let fails = |_: &mut (), i: usize| match i {
                7 | 9 => Err(crate::machine::Error::Host(i.to_string()).into()),
                _ => Ok(i),
            };
            let why = in_order(&mut workers, 100, fails, |_| false).unwrap_err();
            assert!(why.to_string().contains('7'), "{why}");
            assert!(in_order(&mut workers, 0, square, |_| false).unwrap().is_empty());
        }
    }
}
