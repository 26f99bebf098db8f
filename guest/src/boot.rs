//! From the VMM's first instruction to *ready*, and on through the scenario.

use core::arch::global_asm;

use crate::arch::{cpu, espfix, gdt, gdt_switch, idt, kpti, percpu, stacks, user};
use crate::entry::{self, Scheme};
use crate::mm::{early, process, reference, split, vmalloc};
use crate::scenario::{self, Scenario};
use crate::{heap, hyper};

// rdi, rsi, rdx: as the contract says; there is no stack yet.
global_asm!(
    r#"
    .section .text.boot, "ax", @progbits
    .globl kernel_entry
    .type kernel_entry, @function
kernel_entry:
    cld
    movq $main_stack_high, %rsp
    xorl %ebp, %ebp
    call kernel_main
    ud2
    .size kernel_entry, . - kernel_entry
    .text
"#,
    options(att_syntax)
);

/// Boots the kernel for one scheme and one scenario, of which the VMM passes the
/// addresses, and runs it.
#[unsafe(no_mangle)]
extern "sysv64" fn kernel_main(scheme: &'static Scheme, scenario: &'static Scenario, ram: u64) -> ! {
    cpu::enable_protections();
    cpu::enable_vectors();
    cpu::load_kernel_spec_ctrl();
    early::init(ram);
    reference::build(ram);
    espfix::map();
    vmalloc::init(scheme.policy);
    gdt_switch::map();

    // The first process exists before the first vmalloc, so that under the lazy
    // policy it lacks that area's top-level entry.
    process::fork();
    process::give_user(process::FIRST);
    process::switch(process::FIRST);

    let tables = early::next();
    gdt::init(if scenario.split { stacks::trampoline_sp() } else { stacks::entry_sp() });
    idt::init(|vector| entry::gates::gate(scheme, scenario.split, vector));
    let tables = tables..early::next();
    percpu::init();
    espfix::init();
    user::init();
    (scheme.setup)();
    if scenario.split {
        split::build(tables);
        kpti::init();
    }
    heap::init();
    vmalloc::allocate(early::page());
    scenario::install(scenario);
    (scenario.prepare)();
    entry::install(scheme);

    hyper::ready();
    let checksum = (scenario.work)();
    hyper::scenario_end(checksum);
    cpu::halt()
}
