//! What a thread can still do once its process is confined, and what no longer: a guest that made
//! vmm's code its own, or a file that did, could do no more.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{SMALL, campaign_file, command, vmm};

const DONE: i32 = 0;
const REFUSED: i32 = 33;
const ENDED: i32 = 70;

/// Tries a deed in a folder of its own.
fn escapee(deed: &str, extra: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    for file in ["read", "other", "out/seed", "out/new"] {
        fs::write(dir.path().join(file), "before").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_escapee"));
    let out = command.arg(deed).args(extra).current_dir(dir.path()).output().unwrap();
    for file in ["read", "other", "out/seed"] {
        let same = fs::read(dir.path().join(file)).is_ok_and(|text| text == b"before");
        assert!(same || !extra.is_empty(), "{deed} changed {file}");
    }
    assert!(!dir.path().join("escaped").exists() || !extra.is_empty());
    out
}

#[track_caller]
fn ends(deed: &str, code: i32) {
    let out = escapee(deed, &[]);
    assert_eq!(out.status.code(), Some(code), "{deed}: signal {:?}, {}", out.status.signal(), text(&out.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_the_work_needs_goes_on() {
    ["read", "write", "rename", "guest"].iter().for_each(|deed| ends(deed, DONE));
}

#[test]
fn no_other_file_is_opened() {
    let files = [
        "read-other",
        "read-above",
        "write-read",
        "write-other",
        "write-program",
        "list-root",
        "memory-of-parent",
        "unlink",
        "rename-out",
    ];
    files.iter().for_each(|deed| ends(deed, REFUSED));
    ends("symlink", ENDED);
}

#[test]
fn no_socket_is_made_and_no_program_started() {
    let calls = [
        "socket",
        "socket-pair",
        "kill-parent",
        "trace-parent",
        "become-nobody",
        "raise-limit",
        "chdir",
        "terminal-input",
    ];
    for deed in calls {
        ends(deed, ENDED);
    }
    // The C library blocks all signals before it makes a process, and so the one that reports it.
    for deed in ["program", "itself"] {
        const SIGSYS: i32 = 31;
        assert_eq!(escapee(deed, &[]).status.signal(), Some(SIGSYS), "{deed}");
    }
    let out = escapee("socket", &[]);
    let said = text(&out.stderr);
    assert!(said.starts_with("vmm: system call 41 ") && said.contains("not allowed in the sandbox"), "{said}");
}

/// Else the tests above would pass for another reason.
#[test]
fn without_the_sandbox_all_of_it_works() {
    for deed in ["read-other", "write-read", "list-root", "socket", "socket-pair", "program", "unlink", "symlink"] {
        let out = escapee(deed, &["--free"]);
        assert_eq!(out.status.code(), Some(DONE), "{deed}: {}", text(&out.stderr));
    }
}

/// What the kernel says of each thread of a command that is at work.
#[test]
fn every_thread_of_a_campaign_is_confined() {
    let (dir, file) = campaign_file(&SMALL.replace("first_every = 60", "first_every = 2"));
    let out = dir.path().join("out");
    let mut command = command();
    command.arg("campaign").arg(&file).arg("--out").arg(&out).args(["--jobs", "2"]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let mut seen = 0;
    for _ in 0..2000 {
        let names: Vec<String> = fs::read_dir(&tasks)
            .map(|all| all.flatten().filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).collect())
            .unwrap_or_default();
        // Two workers, the watchdog and the main thread.
        if names.len() >= 4 {
            for status in &names {
                let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
                assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), (Some("2"), Some("1")), "{status}");
            }
            seen += 1;
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().unwrap();
    assert_eq!(seen, 1, "the campaign never had its threads");
}

#[test]
fn results_are_the_same_without_it() {
    let (dir, file) = campaign_file(SMALL);
    let run = |name: &str, extra: &[&str]| {
        let out = dir.path().join(name);
        let args = ["campaign", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--json"];
        (vmm(&[&args[..], extra].concat()).exits(0).stdout, common::files(&out))
    };
    assert_eq!(run("in", &[]), run("out", &["--no-sandbox"]));
}

#[test]
fn files_of_the_command_line_are_all_that_is_needed() {
    let (dir, file) = campaign_file(SMALL);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let formats = ["text", "json", "junit", "ktap", "html"].map(|f| format!("--format={f}={}", path(f)));
    let formats: Vec<&str> = formats.iter().map(String::as_str).collect();
    let run = ["run", "--scheme", "naive", "--scenario", "quiet"];
    vmm(&[&run[..], &formats].concat()).exits(0);
    for format in ["text", "json", "junit", "ktap", "html"] {
        assert!(fs::metadata(path(format)).unwrap().len() > 0, "{format}");
    }
    // By the pipes of a shell.
    let script =
        format!("exec {} campaign <(cat {}) --format json=>(cat >{})", common::VMM, file.display(), path("piped"));
    let status = Command::new("bash").args(["-c", &script]).stdout(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(wait_for(Path::new(&path("piped"))));
    // A folder that is not there.
    vmm(&[&run[..], &["--format", &format!("json={}", path("no/where"))]].concat()).exits(74);
}

fn wait_for(file: &Path) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::metadata(file).is_ok_and(|m| m.len() > 0)
    })
}

/// Whether each thread of a process is confined; `None` where it has ended meanwhile.
fn confined(pid: u32) -> Option<bool> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let statuses: Vec<String> =
        tasks.flatten().filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).collect();
    let is = |status: &String| status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n");
    (!statuses.is_empty()).then(|| statuses.iter().all(is))
}

#[test]
fn a_debugged_run_is_confined_while_it_waits_for_gdb() {
    let mut command = command();
    command.args(["debug", "--scheme", "naive", "--scenario", "quiet", "--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for gdb") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0, "it ended before it waited");
    }
    let seen = confined(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, Some(true));
}

/// A process that has a vCPU runs guests.
fn has_vcpu(pid: u32) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to.to_string_lossy().contains("kvm-vcpu"))
}

#[test]
fn what_measures_the_model_is_confined_before_it_has_a_vcpu() {
    let mut command = command();
    command.args(["probe", "--model", "--cases", "20", "--json"]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let (mut seen, mut bare) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        match confined(child.id()).filter(|_| has_vcpu(child.id())) {
            Some(true) => seen += 1,
            Some(false) => bare += 1,
            None => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(seen > 0 && bare == 0, "{seen} times confined, {bare} times not");
}
