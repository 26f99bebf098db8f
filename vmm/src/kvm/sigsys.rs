//! What happens where the sandbox refuses a system call: the process says so and ends. This is
//! here since a signal handler reads what the kernel passes it by a raw pointer.

use std::io;

/// Exit code of a defect of ours, which a refused call is, unless a guest broke out.
const DEFECT: i32 = 70;
/// Where `si_syscall` stands in `siginfo_t` (include/uapi/asm-generic/siginfo.h: three ints, padding,
/// and the address of the call come before it).
const SI_SYSCALL: usize = 24;

/// From now on a refused call ends the process with a message that has its number.
pub fn report_refused_calls() -> io::Result<()> {
    vmm_sys_util::signal::register_signal_handler(libc::SIGSYS, refused)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))
}

extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole siginfo_t to a handler with SA_SIGINFO, which this is; the
    // field lies within it and is aligned.
    let call = unsafe { info.cast::<u8>().add(SI_SYSCALL).cast::<i32>().read() };
    let mut text =
        *b"vmm: system call        is not allowed in the sandbox; unless a guest caused it, this is a defect \
of vmm: please report it (--no-sandbox runs without)\n";
    // No allocation and no locks: this may be anywhere in the program.
    let (mut rest, mut at) = (call.unsigned_abs(), 22);
    loop {
        text[at] = b'0' + (rest % 10) as u8;
        (rest, at) = (rest / 10, at - 1);
        if rest == 0 || at < 17 {
            break;
        }
    }
    // SAFETY: the buffer lives and has this length; write has no other effect on memory.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: ends the process at once, without running anything of it.
    unsafe { libc::_exit(DEFECT) };
}
