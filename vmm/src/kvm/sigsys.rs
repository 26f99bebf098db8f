//! What happens where the sandbox refuses a system call: the process says so and ends. This is
//! here since a signal handler reads what the kernel passes it by a raw pointer.

use std::io;

/// Exit code of a defect of ours, which a refused call is, unless a guest broke out.
const DEFECT: i32 = 70;
/// Where `si_syscall` stands in `siginfo_t`, in ints (include/uapi/asm-generic/siginfo.h: three of
/// them, one of padding, and the address of the call come before it).
const SI_SYSCALL: usize = 6;

/// From now on a refused call ends the process with a message that has its number.
pub fn report_refused_calls() -> io::Result<()> {
    vmm_sys_util::signal::register_signal_handler(libc::SIGSYS, refused)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))
}

/// What is said of a call, and its length: without allocation and locks, since this may be anywhere
/// in the program.
fn message(call: u32) -> ([u8; 256], usize) {
    const BEFORE: &[u8] = b"vmm: system call ";
    const AFTER: &[u8] = b" is not allowed in the sandbox; unless a guest caused it, this is a defect of vmm: \
please report it (--no-sandbox runs without)\n";
    let mut digits = [0; 10];
    let (mut rest, mut first) = (call, digits.len());
    while first == digits.len() || rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut text = [0; 256];
    let all = BEFORE.iter().chain(&digits[first..]).chain(AFTER);
    let length = text.iter_mut().zip(all).map(|(to, from)| *to = *from).count();
    (text, length)
}

extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole siginfo_t to a handler with SA_SIGINFO, which this is; the
    // field lies within it and is aligned.
    let call = unsafe { info.cast::<i32>().wrapping_add(SI_SYSCALL).read() };
    let (text, length) = message(call.unsigned_abs());
    // SAFETY: the buffer lives and has this length; write has no other effect on memory.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), length) };
    // SAFETY: ends the process at once, without running anything of it.
    unsafe { libc::_exit(DEFECT) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_message_has_the_number_and_its_end() {
        for (call, words) in [(0, "system call 0 is"), (41, "system call 41 is"), (u32::MAX, "call 4294967295 is")] {
            let (text, length) = super::message(call);
            let text = str::from_utf8(&text[..length]).unwrap();
            assert!(text.contains(words) && text.ends_with("without)\n"), "{text}");
        }
    }
}
