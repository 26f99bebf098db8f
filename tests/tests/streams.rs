//! Standard output and standard error may be full, closed or gone: the program never panics, and
//! its exit code is that of the work, or 74 where a result could not be written.

mod common;
use std::fs::{File, OpenOptions};
use std::process::Stdio;

use common::{SMALL, campaign_file, command};

const RUN: [&str; 5] = ["run", "--scheme", "naive", "--scenario", "quiet"];

/// A run with two more words.
fn with<'a>(one: &'a str, two: &'a str) -> Vec<&'a str> {
    [&RUN[..], &[one, two]].concat()
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// The exit code with nothing but these streams.
fn code(args: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Option<i32> {
    command().args(args).stdout(stdout).stderr(stderr).status().unwrap().code()
}

/// The exit code where a shell closed these descriptors.
fn closed(args: &[&str], redirections: &str) -> Option<i32> {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirections}"), common::VMM]).args(args);
    shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}

#[test]
fn a_result_that_cannot_be_written_exits_74() {
    let all: [&[&str]; 9] = [
        &["list", "schemes"],
        &["list", "scenarios", "--json"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &RUN,
        &with("--trace", "--color=never"),
        &with("--format", "ktap"),
        &["probe", "--only", "nmi-after-iretq"],
    ];
    for args in all {
        assert_eq!(code(args, full(), Stdio::null()), Some(74), "{args:?}");
        assert_eq!(code(args, full(), full()), Some(74), "{args:?}, and nowhere to say so");
    }
    for format in ["text", "json", "junit", "ktap", "html"] {
        let to = format!("{format}=/dev/full");
        assert_eq!(code(&with("--format", &to), Stdio::null(), full()), Some(74), "{format}");
    }
}

#[test]
fn where_nothing_can_be_said_the_exit_code_still_tells() {
    let usage: [&[&str]; 4] = [&["campagin"], &["run"], &["run", "--scheme", "niave", "--scenario", "quiet"], &[]];
    let bad: [&[&str]; 2] = [&["replay", "nonsense"], &["campaign", "/nonexistent.toml"]];
    for args in usage {
        assert_eq!(code(args, Stdio::null(), full()), Some(2), "{args:?}");
        assert_eq!(closed(args, "2>&-"), Some(2), "{args:?}");
        assert_eq!(closed(args, ">&- 2>&-"), Some(2), "{args:?}");
    }
    for args in bad {
        assert_eq!(code(args, Stdio::null(), full()), Some(65), "{args:?}");
        assert_eq!(closed(args, "<&- >&- 2>&-"), Some(65), "{args:?}");
    }
    assert_eq!(code(&RUN, Stdio::null(), full()), Some(0));
    assert_eq!(code(&[&RUN[..], &["-vvv"]].concat(), Stdio::null(), full()), Some(0), "a log that cannot be written");
    assert_eq!(closed(&RUN, "2>&-"), Some(0));
}

#[test]
fn a_campaign_goes_on_where_nobody_listens() {
    let (_dir, file) = campaign_file(SMALL);
    let wrong = SMALL.replace("violation(I5)", "violation(I9)");
    let (_wrong_dir, wrong) = campaign_file(&wrong);
    assert_eq!(code(&["campaign", file.to_str().unwrap()], Stdio::null(), full()), Some(0));
    assert_eq!(code(&["campaign", wrong.to_str().unwrap()], Stdio::null(), full()), Some(1));
    assert_eq!(closed(&["campaign", wrong.to_str().unwrap()], "2>&-"), Some(1));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    assert_eq!(code(&["list", "schemes", "--all"], write, Stdio::null()), Some(0));
}
