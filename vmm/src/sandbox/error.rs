//! Why a process cannot be confined.

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
