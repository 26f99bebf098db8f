//! Whether there is a kernel for the Linux tests, a Xen for its tests, and so on: where there is none, they are shown as
//! ignored, with the reason, and never as passed.
#![allow(clippy::print_stdout)] // what cargo reads

use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(linux_test_kernel)");
    println!("cargo::rerun-if-env-changed=XDG_CACHE_HOME");
    println!("cargo::rerun-if-env-changed=HOME");
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = cache.unwrap_or_default();
    let xen = cache.join("nmi-lab/xen/debian");
    println!("cargo::rustc-check-cfg=cfg(debian_xen)");
    println!("cargo::rerun-if-changed={}", xen.display());
    println!("cargo::rustc-env=DEBIAN_XEN={}", xen.display());
    if xen.join("xen.gz").exists() && xen.join("xen-syms").exists() {
        println!("cargo::rustc-cfg=debian_xen");
    } else {
        println!("cargo::warning=the Xen tests will NOT RUN: no {} (scripts/xen/fetch-debian-xen)", xen.display());
    }
    let patched = cache.join("nmi-lab/xen/patched");
    println!("cargo::rustc-check-cfg=cfg(patched_xen)");
    println!("cargo::rerun-if-changed={}", patched.display());
    println!("cargo::rustc-env=PATCHED_XEN={}", patched.display());
    if patched.join("xen.gz").exists() && patched.join("xen-syms").exists() {
        println!("cargo::rustc-cfg=patched_xen");
    }
    let units = cache.join("nmi-lab/kvm-unit-tests");
    println!("cargo::rustc-check-cfg=cfg(kvm_unit_tests)");
    println!("cargo::rerun-if-changed={}", units.display());
    println!("cargo::rustc-env=KVM_UNIT_TESTS={}", units.display());
    if units.join("revision").exists() {
        println!("cargo::rustc-cfg=kvm_unit_tests");
    }
    let kernel = cache.join("nmi-lab/linux/vmlinux");
    println!("cargo::rerun-if-changed={}", kernel.display());
    println!("cargo::rustc-env=LINUX_TEST_KERNEL={}", kernel.display());
    if kernel.exists() {
        println!("cargo::rustc-cfg=linux_test_kernel");
    } else {
        println!(
            "cargo::warning=the Linux tests will NOT RUN: no {} (scripts/linux/build-test-kernel)",
            kernel.display()
        );
    }
}
