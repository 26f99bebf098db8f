//! Every `KVM_RUN` is under this watchdog.
//!
//! A vCPU announces each run in an atomic (no system call in the hot path). One
//! thread looks at all of them every few milliseconds, and sends a signal to the
//! thread whose run has lasted too long; without SA_RESTART, KVM_RUN then returns.
//! The signal is repeated until the run is over, since one that arrives just
//! before KVM_RUN is entered has no effect.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::Error;

/// What the watchdog knows of one vCPU.
#[derive(Default)]
pub struct Watch {
    /// Odd while KVM_RUN is under way; each run has a number of its own.
    run: AtomicU64,
    /// The thread that is in KVM_RUN.
    thread: AtomicI32,
    /// How often a run was interrupted.
    interrupts: AtomicU64,
}

const TICK: Duration = Duration::from_millis(10);
static LIMIT_TICKS: AtomicU64 = AtomicU64::new(30);
static WATCHES: Mutex<Vec<Weak<Watch>>> = Mutex::new(Vec::new());
static STARTED: OnceLock<Result<(), String>> = OnceLock::new();

/// Sets how long one run may last, for all vCPUs of this process (300 ms unless
/// told). What is interrupted is judged by stepping, so that a slow machine
/// changes no verdict.
pub fn interrupt_after(limit: Duration) {
    let ticks = limit.as_millis().div_ceil(TICK.as_millis()).max(2);
    LIMIT_TICKS.store(u64::try_from(ticks).unwrap_or(u64::MAX), SeqCst);
}

impl Watch {
    /// A new vCPU's watch; starts the watchdog with the first one. Without a watchdog no guest
    /// runs, since one that does not end would never be left.
    pub fn new() -> Result<Arc<Self>, Error> {
        STARTED.get_or_init(start).clone().map_err(Error::Watchdog)?;
        let watch = Arc::new(Watch::default());
        let mut all = WATCHES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(&watch));
        Ok(watch)
    }

    /// How often the watchdog has interrupted a run of this vCPU.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(SeqCst)
    }

    /// Brackets one KVM_RUN.
    pub fn guard<T>(&self, run: impl FnOnce() -> T) -> T {
        self.thread.store(thread_id(), SeqCst);
        self.run.fetch_add(1, SeqCst);
        let out = run();
        self.run.fetch_add(1, SeqCst);
        out
    }
}

fn signal() -> i32 {
    libc::SIGRTMIN()
}

fn thread_id() -> i32 {
    thread_local!(static TID: i32 = {
        // SAFETY: gettid has no arguments and cannot fail.
        unsafe { libc::gettid() }
    });
    TID.with(|t| *t)
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn start() -> Result<(), String> {
    vmm_sys_util::signal::register_signal_handler(signal(), ignore)
        .map_err(|e| format!("its signal's handler was refused: {e}"))?;
    let spawned = std::thread::Builder::new().name("watchdog".into()).spawn(watch_all);
    spawned.map(drop).map_err(|e| format!("its thread was refused: {e}"))
}

fn watch_all() {
    // Per watch: the run last seen, and for how many ticks.
    let mut seen: Vec<(u64, u64)> = Vec::new();
    loop {
        std::thread::sleep(TICK);
        let mut all = WATCHES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if all.iter().any(|w| w.strong_count() == 0) {
            all.retain(|w| w.strong_count() > 0);
            seen.clear(); // indices moved: every run gets its full time again
        }
        seen.resize(all.len(), (0, 0));
        for (watch, (last, ticks)) in all.iter().filter_map(Weak::upgrade).zip(&mut seen) {
            let run = watch.run.load(SeqCst);
            if run % 2 == 0 || run != *last {
                (*last, *ticks) = (run, 0);
                continue;
            }
            *ticks += 1;
            if *ticks >= LIMIT_TICKS.load(SeqCst) {
                watch.interrupts.fetch_add(1, SeqCst);
                interrupt(watch.thread.load(SeqCst));
            }
        }
    }
}

fn interrupt(thread: i32) {
    let process = i32::try_from(std::process::id()).unwrap_or(0);
    // SAFETY: tgkill touches no memory of ours; for a thread that has ended
    // meanwhile it fails with ESRCH, and our handler does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
}
