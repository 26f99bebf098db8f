//! Builds the guest micro-kernel, whose ELF the `vmm` library embeds.
//!
//! The kernel needs flags of its own (static, non-PIE, no red zone), so it is
//! built by a nested cargo with its own target folder: sharing the outer one
//! would deadlock on cargo's lock. Its bytes depend on nothing but the sources
//! and the toolchain: not on the checkout's path, nor on the flags or the
//! profile of the outer build.
#![allow(clippy::print_stdout)] // what cargo reads

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel is an ordinary Linux object file to the compiler: no other target
/// needs to be installed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What makes an ordinary object file a kernel's.
const FLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Ccode-model=kernel",
    "-Cno-redzone=yes",
    "-Cforce-unwind-tables=no",
    "-Ctarget-cpu=x86-64",
    // The toolchain's own linker: the image must not depend on the host's.
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    "-Clink-arg=--build-id=none",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-static",
    "-Clink-arg=-znognustack",
    "-Clink-arg=--orphan-handling=error",
];

/// The profile, so that the workspace's own cannot change the image.
const PROFILE: &[(&str, &str)] = &[
    ("OPT_LEVEL", "s"),
    ("DEBUG", "none"),
    ("PANIC", "abort"),
    ("CODEGEN_UNITS", "1"),
    // The toolchain's `core` was vectorised when it was compiled; as bitcode it
    // is compiled again, for size, and then holds no SSE instruction.
    ("LTO", "fat"),
    ("INCREMENTAL", "false"),
    ("STRIP", "debuginfo"),
    ("DEBUG_ASSERTIONS", "false"),
    ("OVERFLOW_CHECKS", "false"),
];

/// A guest that the library embeds.
struct Guest {
    /// The binary in the package `guest`, and the feature that it needs.
    name: &'static str,
    /// Where it is linked to, relative to the workspace, which is where cargo runs rustc.
    script: &'static str,
    /// Its target folder.
    folder: &'static str,
    /// The variable that names the file.
    variable: &'static str,
}

const GUESTS: [Guest; 2] = [
    Guest { name: "kernel", script: "guest/kernel.ld", folder: "guest", variable: "GUEST_ELF" },
    Guest { name: "xen-pv", script: "guest/xen-pv/pv.ld", folder: "xen-pv", variable: "XEN_PV_ELF" },
];

fn main() {
    let manifest_dir = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.parent().expect("the vmm package lies in the workspace").to_owned();
    for path in ["guest", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(var("OUT_DIR"));
    for guest in &GUESTS {
        let elf = build(guest, &workspace, &out.join(guest.folder));
        println!("cargo::rustc-env={}={}", guest.variable, elf.display());
    }
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("cargo sets {name} for build scripts: {e}"))
}

/// Runs the nested build and returns the path of the guest's ELF.
fn build(guest: &Guest, workspace: &Path, target_dir: &Path) -> PathBuf {
    let mut flags: Vec<String> = FLAGS.iter().map(|f| f.to_string()).collect();
    flags.push(format!("-Clink-arg=-T{}", guest.script));
    flags.push(format!("--remap-path-prefix={}=", workspace.display()));

    let mut cargo = Command::new(var("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "-p", "guest", "--bin", guest.name, "--features", guest.name])
        .args(["--locked", "--quiet", "--target", TARGET, "--target-dir"])
        .arg(target_dir);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for (key, value) in PROFILE {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    let status = cargo.status().unwrap_or_else(|e| panic!("cannot run cargo for the guest {}: {e}", guest.name));
    assert!(status.success(), "the guest {} does not build (cargo: {status})", guest.name);
    target_dir.join(TARGET).join("release").join(guest.name)
}

/// Whether a variable of the outer build would change the nested one: flags,
/// wrappers (clippy's), profiles, targets, and what cargo tells this script.
fn is_foreign(name: &str) -> bool {
    let keep = ["CARGO_HOME", "CARGO_MAKEFLAGS"].contains(&name)
        || ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"].iter().any(|p| name.starts_with(p));
    let flags = ["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LINKER"];
    !keep && (name.starts_with("CARGO_") || flags.contains(&name))
}
