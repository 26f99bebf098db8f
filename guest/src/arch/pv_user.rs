//! User mode where the hypervisor switches rings and page tables: the way there and back
//! by `HYPERVISOR_iret`, system calls by the registered callback.
//!
//! The kernel's page table has no user memory; a second root, which only the hypervisor
//! loads, has the kernel's slots and the user's. GS is exchanged with the rings. So
//! there is no window where CPL0 runs on something that the user chose.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use guest::abi;

use super::enter::enter_user;
use super::{gdt, percpu, stacks};
use crate::hyper;
use crate::mm::{layout, process};

/// User mode is the hypervisor's.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Tells the hypervisor all that the ring switch needs.
pub fn init() {
    unsafe extern "C" {
        #[link_name = "pv_syscall.entry"]
        fn syscall_entry();
    }
    let entry = syscall_entry as *const () as u64;
    accepted(hyper::register_callback(abi::CALLBACKTYPE_SYSCALL, entry, 0));
    accepted(hyper::set_kernel_stack(u64::from(gdt::KERNEL_DS), stacks::entry_sp()));
    accepted(hyper::set_user_gs(layout::USER_DATA));
    accepted(hyper::set_user_root(process::take_user(process::FIRST)));
    IN_USE.store(true, Relaxed);
}

fn accepted(error: i64) {
    assert!(error == 0, "the hypervisor refused user mode: {error}");
}

/// Whether user mode is entered by hypercall.
pub fn in_use() -> bool {
    IN_USE.load(Relaxed)
}

enter_user! { pub(super) fn enter = "pv_user.enter", r"
    # iret_context, the last word first. Flags 0: NMIs stay as they are.
    pushq %r8
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rdi
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax
pv_user.enter_iret:
    jmp HYPERVISOR_iret
"}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# The hypervisor's bounce of a SYSCALL: RSP → RCX, R11, frame on the kernel's stack;
# GS is the kernel's. rcx = the user's RIP, r11 = its RFLAGS.
# In: rax = number, rdi = argument. Out: rax = result. Clobbers rcx, r11.
    .globl pv_syscall.entry
    .type pv_syscall.entry, @function
pv_syscall.entry:
    popq %rcx
    popq %r11
    # The upper half of the CS word is the event mask, not part of the selector.
    movl $0, 12(%rsp)
    testl %eax, %eax
    jz pv_syscall.leave
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %rcx
    call sys_mix
pv_syscall.exit:
    popq %rcx
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    # RSP → frame. R11 is the hypervisor's to restore: the flag says so.
pv_syscall.build_context:
    pushq ${in_syscall}
    pushq %rcx
    pushq %r11
    pushq %rax
pv_syscall.exit_iret:
    jmp HYPERVISOR_iret

pv_syscall.leave:
    movq %rdi, %rax
    movq %gs:{user_return}, %rsp
    jmp user.left
    .size pv_syscall.entry, . - pv_syscall.entry
    .text
"#,
    user_return = const percpu::USER_RETURN,
    in_syscall = const abi::VGCF_IN_SYSCALL,
    options(att_syntax)
);
