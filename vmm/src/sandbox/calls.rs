//! System calls, by seccomp: those of the list, some of them with these arguments only. Any other
//! ends the process (see [`crate::kvm::report_refused_calls`]).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::error::Error;

/// What is allowed whatever its arguments are. Files among them are restricted by Landlock.
const ALLOWED: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, waiting and time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // Signals.
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Descriptors and files.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdir,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_unlink,
    libc::SYS_write,
    libc::SYS_writev,
    // A further, narrower set of files.
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
];

/// What a command that waits for a connection needs besides. None of it makes one to elsewhere.
const LISTENING: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
];

/// Which system calls a command needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// Those of all commands.
    #[default]
    Usual,
    /// Those to wait for a connection, too.
    Listening,
}

/// The type in the number of KVM's ioctls (`KVMIO`), in its place.
const KVM_IOCTL: u64 = 0xae00;
const IOCTL_TYPE: u64 = 0xff00;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
const PROT_EXEC: u64 = libc::PROT_EXEC as u64;

pub(super) fn restrict(calls: Calls) -> Result<(), Error> {
    let apply = |filter: Result<SeccompFilter, seccompiler::BackendError>| {
        let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
        let program = program.map_err(|e| Error::Seccomp(e.to_string()))?;
        seccompiler::apply_filter(&program).map_err(|e| Error::Seccomp(e.to_string()))
    };
    apply(without_clone3())?;
    apply(allowed(calls))
}

/// Where `clone3` is not there, the C library uses `clone`, whose flags a filter can see.
fn without_clone3() -> Result<SeccompFilter, seccompiler::BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), TargetArch::x86_64)
}

fn allowed(calls: Calls) -> Result<SeccompFilter, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let rule = |arg, op, value| SeccompRule::new(vec![SeccompCondition::new(arg, Dword, op, value)?]);
    let pid = u64::from(std::process::id());
    let some = [
        // KVM, and the size of a terminal.
        (
            libc::SYS_ioctl,
            vec![rule(1, MaskedEq(IOCTL_TYPE), KVM_IOCTL)?, rule(1, Eq, libc::TIOCGWINSZ)?, rule(1, Eq, libc::TCGETS)?],
        ),
        // Threads, but no processes.
        (libc::SYS_clone, vec![rule(0, MaskedEq(CLONE_THREAD), CLONE_THREAD)?]),
        // The first filter answers it.
        (libc::SYS_clone3, vec![]),
        // Signals to this process, and no other handler for the one that a refused call raises.
        (libc::SYS_tgkill, vec![rule(0, Eq, pid)?]),
        (libc::SYS_rt_sigaction, vec![rule(0, Ne, libc::SIGSYS as u64)?]),
        // No memory becomes code.
        (libc::SYS_mmap, vec![rule(2, MaskedEq(PROT_EXEC), 0)?]),
        (libc::SYS_mprotect, vec![rule(2, MaskedEq(PROT_EXEC), 0)?]),
        // A thread's name; landlock sets no_new_privs, and seccomp is asked whether it is there.
        (libc::SYS_prctl, vec![rule(0, Eq, libc::PR_SET_NAME as u64)?, rule(0, Eq, libc::PR_SET_NO_NEW_PRIVS as u64)?]),
        // Limits are read, and not set: no new ones are passed.
        (
            libc::SYS_prlimit64,
            vec![SeccompRule::new(vec![SeccompCondition::new(2, seccompiler::SeccompCmpArgLen::Qword, Eq, 0)?])?],
        ),
    ];
    let more = if calls == Calls::Listening { LISTENING } else { &[] };
    let rules = ALLOWED.iter().chain(more).map(|call| (*call, vec![])).chain(some).collect();
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)
}
