//! User mode with FRED: the way there by ERETU; what comes back is an event, a system call
//! too, and enters where all events of ring 3 do (`entry/fred.rs`).
//!
//! Delivery and return exchange GS and load the kernel's stack or the user's in one step.
//! So there is no window where CPL0 runs on something that the user chose.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::percpu;

/// FRED delivers the events of user mode.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// User mode is FRED's.
pub fn init() {
    IN_USE.store(true, Relaxed);
}

/// Whether user mode is entered by ERETU.
pub fn in_use() -> bool {
    IN_USE.load(Relaxed)
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# fred_user.enter(rdi: RIP, rsi: RSP, rdx: RFLAGS, rcx: CS, r8: SS) -> rax. GS is the kernel's.
    .globl fred_user.enter
    .type fred_user.enter, @function
fred_user.enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %gs:{user_return}
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    # abi::FredFrame, the last word first. The NMI bit is clear: NMIs stay as they are.
    pushq $0
    pushq $0
    pushq %r8
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rdi
    pushq $0
    jmp fred.exit_eretu
    .size fred_user.enter, . - fred_user.enter
    .text
"#,
    user_return = const percpu::USER_RETURN,
    options(att_syntax)
);

/// Runs user code; as `user::enter`, which calls it.
///
/// # Safety
/// As there.
pub unsafe fn enter(rip: u64, rsp: u64, rflags: u64, cs: u16, ss: u16) -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "fred_user.enter"]
        fn fred_user_enter(rip: u64, rsp: u64, rflags: u64, cs: u64, ss: u64) -> u64;
    }
    // SAFETY: the caller vouches for the code.
    unsafe { fred_user_enter(rip, rsp, rflags, cs.into(), ss.into()) }
}
