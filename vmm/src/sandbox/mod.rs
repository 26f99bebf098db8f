//! What the process gives up before it reads files that somebody else wrote, and before it runs a
//! guest: files but those of its work (Landlock), system calls but those of its work (seccomp),
//! new privileges, and core dumps.
//!
//! What a parser or KVM's exits could be made to do by such a file or guest is thereby bounded:
//! no file but those on the command line is opened, no socket is made, and no program started.

mod calls;
mod files;
mod limits;

pub use files::Files;

/// Why the process cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Landlock is missing, or refuses.
    #[error(
        "no sandbox: this kernel does not restrict files (Landlock: {0}). It needs Linux 5.13 with Landlock among \
         its security modules, and a container that permits it; --no-sandbox runs without"
    )]
    Landlock(#[from] landlock::RulesetError),
    /// Landlock's rules cannot be made.
    #[error("no sandbox: Landlock's rules cannot be made ({0}); --no-sandbox runs without")]
    Rules(std::io::Error),
    /// Seccomp is missing, or refuses.
    #[error("no sandbox: this kernel does not restrict system calls (seccomp: {0}); --no-sandbox runs without")]
    Seccomp(String),
    /// A limit cannot be set.
    #[error("no sandbox: a limit cannot be set ({0}); --no-sandbox runs without")]
    Limit(nix::errno::Errno),
    /// The handler for system calls that are not allowed cannot be set.
    #[error("no sandbox: no handler for SIGSYS ({0}); --no-sandbox runs without")]
    Handler(std::io::Error),
    /// Which threads there are is not known.
    #[error("no sandbox: /proc/self/task cannot be read ({0}); --no-sandbox runs without")]
    Unseen(std::io::Error),
    /// There is a thread that would not be confined.
    #[error("no sandbox: {0} threads run already, and only this one would be confined; a defect of vmm, please report")]
    Threads(usize),
}

/// Whether this kernel can restrict files, which is what a kernel may lack. Changes nothing.
pub fn available() -> Result<(), Error> {
    files::ruleset()?;
    Ok(())
}

/// Confines the process for good: this thread, which must be the only one, and all that it will
/// start. A system call that is not allowed ends the process with exit code 70.
pub fn enter(files: &Files) -> Result<(), Error> {
    alone()?;
    crate::kvm::report_refused_calls().map_err(Error::Handler)?;
    limits::lower()?;
    files::restrict(files)?;
    calls::restrict()
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
