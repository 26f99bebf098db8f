//! What the process gives up before it reads files that somebody else wrote, and before it runs a
//! guest: files but those of its work (Landlock), system calls but those of its work (seccomp),
//! new privileges, and core dumps.
//!
//! What a parser or KVM's exits could be made to do by such a file or guest is thereby bounded:
//! no file but those on the command line is opened, no socket is made, and no program started.

mod calls;
mod error;
mod files;
mod limits;

pub use calls::Calls;
pub use error::Error;
pub use files::Files;

/// Whether this kernel can restrict files, which is what a kernel may lack. Changes nothing.
pub fn available() -> Result<(), Error> {
    files::ruleset()?;
    Ok(())
}

/// Confines the process for good: this thread, which must be the only one, and all that it will
/// start. A system call that is not allowed ends the process with exit code 70.
pub fn enter(files: &Files, calls: Calls) -> Result<(), Error> {
    alone()?;
    crate::kvm::report_refused_calls().map_err(Error::Handler)?;
    limits::lower()?;
    files::restrict(files)?;
    calls::restrict(calls)
}

/// Waits until this is the only thread: one that was joined is listed for a moment longer.
fn alone() -> Result<(), Error> {
    const TRIES: u32 = 1000;
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count).map_err(Error::Unseen);
    for _ in 0..TRIES {
        if threads()? == 1 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(Error::Threads(threads()?))
}

/// Of the files that [`enter`] left, leaves only these. No other thread may run yet.
pub fn narrow(files: &Files) -> Result<(), Error> {
    files::restrict(files)
}
