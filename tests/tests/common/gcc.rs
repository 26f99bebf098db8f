//! The distribution's compiler, where there is one.
#![allow(dead_code)] // each test file uses a part of this

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether gcc and make are there; says so loudly where they are not. With CI set, a
/// missing one fails the test.
#[allow(clippy::print_stderr)] // a skipped test must be seen
pub fn is_there() -> bool {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if there("gcc") && there("make") {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "gcc and make must be installed where CI is set");
    eprintln!("\n*** SKIPPED: gcc or make is not installed, so this test has checked NOTHING ***\n");
    false
}

/// Runs a command that must succeed.
#[track_caller]
pub fn must(command: &mut Command) {
    let out = command.output().expect("the command starts");
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// The examples in the source tree.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/examples")
}

/// A copy of the examples, to build in.
pub fn copied_examples() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    must(Command::new("cp").arg("-r").arg(examples().join(".")).arg(dir.path()));
    dir
}

/// Compiles a text (`.c` or `.S`) to an object, and returns its bytes.
#[track_caller]
pub fn object(name: &str, text: &str, flags: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join(name), dir.path().join("out.o"));
    std::fs::write(&from, text).unwrap();
    let include = format!("-I{}", examples().join("include").display());
    must(Command::new("gcc").args(["-c", "-Wall", "-Werror", &include]).args(flags).arg("-o").arg(&to).arg(&from));
    std::fs::read(to).unwrap()
}
