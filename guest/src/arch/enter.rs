//! What every way to user mode begins with: the kernel's registers are saved, and the data
//! segments emptied.

/// Defines `enter`: runs user code at `rip` until it leaves by `user::SYS_LEAVE`; its result.
/// The assembler function `$label` does it: what all ways have in common, and then `$text`,
/// with RDI: RIP, RSI: RSP, RDX: RFLAGS, RCX: CS, R8: SS of the user. RAX, DS and ES are 0, GS
/// is the kernel's; `user.left` is the way back.
macro_rules! enter_user {
    ($visibility:vis fn $enter:ident = $label:literal, $text:literal $(, $name:ident = $value:expr)* $(,)?) => {
        core::arch::global_asm!(
            ".section .text.work, \"ax\", @progbits",
            concat!(".globl ", $label),
            concat!(".type ", $label, ", @function"),
            concat!($label, ":"),
            // What the calling convention keeps; `user.left` takes it back.
            "pushq %rbx",
            "pushq %rbp",
            "pushq %r12",
            "pushq %r13",
            "pushq %r14",
            "pushq %r15",
            "movq %rsp, %gs:{user_return}",
            // The CPU empties data segments that the user may not have; some hosts do not.
            "xorl %eax, %eax",
            "movl %eax, %ds",
            "movl %eax, %es",
            $text,
            concat!(".size ", $label, ", . - ", $label),
            ".text",
            user_return = const $crate::arch::percpu::USER_RETURN,
            $($name = const $value,)*
            options(att_syntax)
        );

        /// Runs user code at `rip` until it leaves; its result.
        ///
        /// # Safety
        /// RIP must be user code, CS a user's code segment, SS its stack segment. RSP may be
        /// anything: the user may choose it, too.
        #[inline(always)]
        $visibility unsafe fn $enter(rip: u64, rsp: u64, rflags: u64, cs: u16, ss: u16) -> u64 {
            unsafe extern "sysv64" {
                #[link_name = $label]
                fn enter(rip: u64, rsp: u64, rflags: u64, cs: u64, ss: u64) -> u64;
            }
            // SAFETY: the caller vouches for the code; what the user does to registers ends at
            // `user.left`, which restores those that the calling convention keeps.
            unsafe { enter(rip, rsp, rflags, cs.into(), ss.into()) }
        }
    };
}
pub(super) use enter_user;
