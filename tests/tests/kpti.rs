//! Page tables apart for user code (KPTI), two processes: scenario `user-kpti`.

mod common;
use common::{Done, vmm};

/// A schedule in every gear.
fn run(scheme: &str, schedule: &str) -> Done {
    let args = ["run", "--scheme", scheme, "--scenario", "user-kpti", "--schedule", schedule, "--gear", "all"];
    vmm(&args)
}

/// Where CR3 is the user's at CPL 0: in the first process and in the second.
const AT_CPL0: [&str; 4] = [
    "nmi@kpti_syscall.load_cr3#1",
    "nmi@kpti_syscall.sysretq#1",
    "nmi@kpti_syscall.load_cr3#3",
    "nmi@kpti_user.enter_iretq#2",
];
const IN_USER: &str = "nmi@user_kpti.start#1";
const IN_KERNEL: &str = "nmi@kpti_syscall.kernel_stack#1";

#[test]
fn linuxs_way_survives_wherever_the_users_cr3_is() {
    for schedule in AT_CPL0.into_iter().chain([IN_USER, IN_KERNEL]) {
        run("mainline", schedule).exits(0);
    }
    // The body's #UD lets another in, on the way back to user code, before CR3 is the user's and after.
    for second in ["user_trampoline", "user_swapgs", "user_iret"] {
        run("mainline", &format!("{IN_USER} nmi@mainline_kpti.{second}#1")).exits(0);
    }
}

#[test]
fn each_wrong_way_breaks_its_rule() {
    for schedule in AT_CPL0.into_iter().chain([IN_USER]) {
        run("bug-kpti-none", schedule).exits(1).prints(&["violation(I11", "a user's page table"]);
    }
    run("bug-kpti-none", IN_KERNEL).exits(0);
    for schedule in AT_CPL0 {
        run("bug-kpti-cs", schedule).exits(1).prints(&["violation(I11", "a user's page table"]);
        run("bug-kpti-kernel-back", schedule).exits(1).prints(&["violation(I6: CR3 was 0x3"]);
        run("bug-kpti-user-back", schedule).exits(0);
    }
    for scheme in ["bug-kpti-cs", "bug-kpti-kernel-back", "bug-kpti-stale"] {
        run(scheme, IN_USER).exits(0);
        run(scheme, IN_KERNEL).exits(0);
    }
    run("bug-kpti-user-back", IN_KERNEL).exits(1).prints(&["violation(I6: CR3 was 0x1"]);
    run("bug-kpti-stale", AT_CPL0[0]).exits(0);
    run("bug-kpti-stale", AT_CPL0[2]).exits(1).prints(&["violation(I11", "a kernel's of another process"]);
}

#[test]
fn a_scheme_that_does_not_say_that_it_knows_two_tables_takes_no_part() {
    run("naive", "").exits(2).says(&["page tables apart for user code (kpti)"]);
}
