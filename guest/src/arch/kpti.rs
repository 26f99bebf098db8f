//! User mode where user code has page tables of its own (mm/split.rs): the way there, and system
//! calls. Modelled on Linux's with KPTI: between user code and the kernel's own stack lies a small
//! one that both tables map (there: the trampoline stack), on which CR3 is switched.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use guest::abi;

use super::enter::enter_user;
use super::{cpu, percpu};
use crate::mm::split;

/// User code has page tables of its own.
static IN_USE: AtomicBool = AtomicBool::new(false);

// What a process of each number has, by what entry code does to CR3.
lab_note!("pagetables kernel=ROOTS+0x1000 user=user_root_1");
lab_note!("pagetables kernel=ROOTS+0x2000 user=user_root_2");
// Defined for the notes above by the linker script.
const _: () = assert!(split::USER_TABLE == 0x20_0000 && split::USER_TABLE == abi::ENTRY_USER_TABLE);

/// From now on user code has them.
pub fn init() {
    unsafe extern "C" {
        #[link_name = "kpti_syscall.entry"]
        fn syscall_entry();
    }
    // SAFETY: code that expects what SYSCALL leaves.
    unsafe { cpu::write_msr(cpu::LSTAR, syscall_entry as *const () as u64) };
    percpu::set_boot_cr3(cpu::root());
    IN_USE.store(true, Relaxed);
}

/// Whether user mode is entered with a page table of its own.
pub fn in_use() -> bool {
    IN_USE.load(Relaxed)
}

enter_user! { pub(super) fn enter = "kpti_user.enter", r"
    # The frame, where both tables have it. RAX is 0.
    movq %gs:{entry_sp}, %rsp
    pushq %r8
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rdi
    movq %cr3, %rax
    orq ${user_table}, %rax
kpti_user.enter_cr3:
    movq %rax, %cr3
    movl $0, %eax
    swapgs
    # CPL0 with nothing of the kernel's but the stack.
kpti_user.enter_iretq:
    iretq
",
    entry_sp = percpu::ENTRY_SP,
    user_table = split::USER_TABLE,
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# SYSCALL: rcx = the user's RIP, r11 = its RFLAGS; RSP, GS and CR3 are the user's.
# In: rax = number, rdi = argument. Out: rax = result. Clobbers rcx, r11.
    .globl kpti_syscall.entry
    .type kpti_syscall.entry, @function
kpti_syscall.entry:
    swapgs
    # GS is the kernel's, RSP whatever the user chose.
    movq %rsp, %gs:{user_rsp}
    movq %gs:{entry_sp}, %rsp
    pushq %rax
    movq %cr3, %rax
    andq ${not_user_table}, %rax
kpti_syscall.load_cr3:
    movq %rax, %cr3
    popq %rax
    movq %gs:{thread_sp}, %rsp
kpti_syscall.kernel_stack:
    pushq %r11
    pushq %rcx
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    testl %eax, %eax
    jz kpti_syscall.leave
kpti_syscall.call:
    call sys_mix
kpti_syscall.exit:
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rcx
    popq %r11
    movq %gs:{entry_sp}, %rsp
    pushq %rax
    movq %cr3, %rax
    orq ${user_table}, %rax
kpti_syscall.user_cr3:
    movq %rax, %cr3
    # The user's table, the kernel's GS and stack.
    popq %rax
    movq %gs:{user_rsp}, %rsp
kpti_syscall.user_stack:
    swapgs
    # CPL0 with nothing of the kernel's.
kpti_syscall.sysretq:
    sysretq

kpti_syscall.leave:
    movq %rdi, %rax
    movq %gs:{user_return}, %rsp
    jmp user.left
    .size kpti_syscall.entry, . - kpti_syscall.entry
    .text
"#,
    user_return = const percpu::USER_RETURN,
    user_rsp = const percpu::USER_RSP,
    entry_sp = const percpu::ENTRY_SP,
    thread_sp = const percpu::THREAD_SP,
    user_table = const split::USER_TABLE,
    not_user_table = const !split::USER_TABLE as i64,
    options(att_syntax)
);
