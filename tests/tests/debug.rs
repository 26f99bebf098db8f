//! `vmm debug`: a real gdb goes through a run, forwards and backwards.

mod common;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::{command, failing_line, vmm};

/// Whether gdb is there; says so loudly where it is not. With CI set, a missing one fails the
/// test.
#[allow(clippy::print_stderr)] // a skipped test must be seen
fn gdb_is_there() -> bool {
    if Command::new("gdb").arg("--version").output().is_ok_and(|o| o.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "gdb must be installed where CI is set");
    eprintln!("\n*** SKIPPED: gdb is not installed, so this test has checked NOTHING ***\n");
    false
}

/// A server that waits for gdb; it is ended with the test.
struct Server {
    child: Child,
    address: String,
    /// What it said before it waited.
    said: Vec<String>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = command().arg("debug").args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            said.push(line.clone());
            if let Some((_, address)) = line.split_once("target remote ") {
                return Self { child, address: address.trim_end_matches('\'').to_owned(), said };
            }
        }
        let _ = child.wait();
        panic!("the server ended: {said:?}");
    }

    /// Runs gdb with these commands; returns what it printed.
    fn gdb(mut self, commands: &[&str]) -> String {
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch", "-ex", "set pagination off", "-ex", "set debuginfod enabled off"]);
        gdb.args(["-ex", &format!("target remote {}", self.address)]);
        for command in commands {
            gdb.args(["-ex", command]);
        }
        let out = gdb.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(self.child.wait().unwrap().success(), "the server fails when gdb leaves: {text}");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn from_the_failing_end_back_to_the_words_last_writer() {
    if !gdb_is_there() {
        return;
    }
    // naive: NMI 2 is delivered to NMI 1's frame, and overwrites it. The way back to the
    // interrupted code is the frame's lowest word.
    let server = Server::start(&[&failing_line(), "--listen", "0"]);
    assert!(server.said[0].contains("violation"), "{:?}", server.said);
    let text = server.gdb(&[
        "break 'naive.entry'",
        "continue",
        "print/x $rsp",
        "print/x *(long *)$rsp",
        "set $frame = $rsp",
        "delete",
        "continue",
        "watch *(long *)$frame",
        "reverse-continue",
        "print/x $rip",
        "print/x *(long *)$frame",
        "monitor state",
        "reverse-continue",
        "print/x $rip",
        "reverse-continue",
        "stepi",
        "print/x *(long *)$frame",
    ]);
    assert!(text.contains("Breakpoint 1, "), "symbols are there over the connection:\n{text}");
    assert!(text.contains("No more reverse-execution history"), "the end is the run's:\n{text}");
    let printed: Vec<u64> = text
        .lines()
        .filter_map(|l| l.strip_prefix('$')?.split_once(" = 0x").map(|(_, v)| u64::from_str_radix(v, 16).unwrap()))
        .collect();
    let [_, first_word, last_writer, before, ..] = printed[..] else { panic!("{text}") };
    assert_eq!(before, first_word, "before its last writer, the word is what NMI 1's delivery wrote:\n{text}");
    assert!(text.contains("Hardware watchpoint 2: *(long *)$frame"), "{text}");
    // The last writer is the delivery of NMI 2, at exit_iret: it is pending there.
    assert!(text.contains("exit_iret#1") && text.contains("P, an NMI is pending: yes"), "{text}");
    let all =
        vmm(&["list", "boundaries", "--scheme", "naive", "--scenario", "vmalloc-fault", "--json"]).exits(0).json();
    let place = all["boundaries"].as_array().unwrap().iter().find(|b| b["place"] == "exit_iret").unwrap().clone();
    let address = place["address"].as_str().unwrap().trim_start_matches("0x");
    assert_eq!(u64::from_str_radix(address, 16).unwrap(), last_writer, "{text}");
}

#[test]
fn a_step_back_undoes_a_step_and_an_nmi_arrives_where_the_run_stands() {
    if !gdb_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gdb");
    let listen = format!("unix:{}", socket.display());
    let server = Server::start(&["--scheme", "naive", "--scenario", "quiet", "--listen", &listen]);
    assert!(server.said[0].ends_with("the run comes to: pass"), "{:?}", server.said);
    let text = server.gdb(&[
        "stepi 3",
        "info registers",
        "echo (forwards)\\n",
        "stepi 6",
        "reverse-stepi 6",
        "info registers",
        "echo (back)\\n",
        "set var $rax = 7",
        "monitor inject",
        "monitor next",
        "continue",
        "monitor state",
        "monitor line",
        "monitor inject nmx",
        "monitor nonsense",
        "reverse-continue",
        "monitor state",
    ]);
    let (before, rest) = text.split_once("(forwards)").unwrap();
    let before = &before[before.find("rax ").unwrap()..];
    let (after, rest) = rest.split_once("(back)").unwrap();
    let after = &after[after.find("rax ").unwrap()..];
    assert_eq!(before, after, "six steps and six steps back: every register is as it was");
    assert!(rest.contains("Could not write registers"), "a recorded run cannot be changed:\n{rest}");
    // gdb's standard error has what `monitor` says.
    for words in [
        "an NMI arrives (at ",
        "an NMI is delivered at ",
        "depth, NMIs delivered and not returned from: 1",
        "live frame of #NMI at ",
        "vmm replay 'naive/quiet/native@",
        "unknown event \"nmx\"",
        "unknown command \"nonsense\"",
        "move 0 of ",
    ] {
        assert!(rest.contains(words), "{words:?} is missing in:\n{rest}");
    }
    assert!(!socket.exists(), "the socket is gone with the server");
}

/// What is delivered where it arrives is a move of its own, forwards and backwards.
#[test]
fn a_run_with_a_machine_check_and_a_breakpoint() {
    if !gdb_is_there() {
        return;
    }
    let schedule = "nmi@short.work#1 mce@mainline.body#1 db@short.shadow#1";
    let args = ["--scheme", "mainline", "--scenario", "watch", "--schedule", schedule, "--listen", "0"];
    let server = Server::start(&args);
    assert!(server.said[0].ends_with("the run comes to: pass"), "{:?}", server.said);
    let text = server.gdb(&[
        "monitor next",
        "continue",
        "monitor next",
        "continue",
        "monitor next",
        "continue",
        "monitor next",
        "continue",
        "continue",
        "reverse-continue",
        "monitor inject mce",
        "monitor line",
    ]);
    for words in ["the machine check is delivered at ", "a machine check arrives (at ", " mce@"] {
        assert!(text.contains(words), "{words:?} is missing in:\n{text}");
    }
}

#[test]
fn an_entry_that_was_linked_in_has_its_symbols() {
    if !gdb_is_there() || !common::gcc::is_there() {
        return;
    }
    let all = common::gcc::copied_examples();
    let dir = all.path().join("entry-only");
    common::gcc::must(Command::new("make").arg("-s").current_dir(&dir));
    let object = dir.join("my_nmi.o").display().to_string();
    let first = vmm(&["list", "boundaries", "--entry", &object, "--scheme", "mine", "--scenario", "quiet", "--json"]);
    let first = first.exits(0).json()["boundaries"][0]["place"].as_str().unwrap().to_owned();
    let args = ["--entry", &object, "--scheme", "mine", "--scenario", "quiet", "--schedule", &format!("nmi@{first}")];
    let text =
        Server::start(&[&args[..], &["--listen", "0"]].concat()).gdb(&["break *nmi_entry", "continue", "info line"]);
    // The slot that it was put into begins there, too, and gdb may say either name.
    assert!(text.contains("Breakpoint 1, ") && text.contains(" at my_nmi.S:9"), "symbols and DWARF are there:\n{text}");
}

#[test]
fn what_cannot_be_debugged_is_said() {
    vmm(&["debug"]).exits(2);
    vmm(&["debug", "--scheme", "naive"]).exits(2);
    vmm(&["debug", "x", "--scheme", "naive", "--scenario", "quiet"]).exits(2);
    vmm(&["debug", "--scheme", "naive", "--scenario", "quiet", "--listen", "nowhere"]).exits(2).says(&["unix:PATH"]);
    vmm(&["debug", "nonsense"]).exits(65).says(&["is no replay line"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    vmm(&["debug", "--scheme", "naive", "--scenario", "quiet", "--listen", &at]).exits(74).says(&["cannot listen on"]);
}

/// Latched NMI 2 comes at the iretq; the watchpoint on its frame's lowest word finds who wrote it.
#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn a_case_on_a_real_kernel_goes_backwards_too() {
    if !gdb_is_there() {
        return;
    }
    let schedule = "nmi@user nmi@asm_exc_nmi+0x4";
    let kernel = ["--kernel", env!("LINUX_TEST_KERNEL"), "--ram", "64", "--case-limit", "2000"];
    // As replay lines have it.
    let server = Server::start(&[&kernel[..], &["--gear", "jump", "--schedule", schedule, "--listen", "0"]].concat());
    assert!(server.said.iter().any(|l| l.ends_with("the run comes to: pass")), "{:?}", server.said);
    let text = server.gdb(&[
        "monitor state",
        "break *asm_exc_nmi",
        "continue",
        "print/x $rip == (long)&asm_exc_nmi",
        "x/2i $pc",
        "set $frame = $rsp",
        "print/x *(long *)$frame",
        "stepi",
        "stepi",
        "monitor state",
        "reverse-stepi 2",
        "print/x $rip == (long)&asm_exc_nmi",
        "delete",
        "continue",
        "watch *(long *)$frame",
        "reverse-continue",
        "monitor last",
        "monitor state",
        "monitor line",
        "monitor events",
    ]);
    let printed: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix('$')?.split_once(" = ")).map(|(_, v)| v).collect();
    assert_eq!((printed[0], printed[2]), ("0x1", "0x1"), "a step back undoes a step:\n{text}");
    assert!(text.contains("at user#1") && text.contains("<asm_exc_nmi>:"), "{text}");
    assert!(text.contains("B, NMIs are blocked: yes") && text.contains("P, an NMI is pending: yes"), "{text}");
    assert!(text.contains("NMIs that arrived: 2, and were delivered: 1"), "{text}");
    assert!(text.contains("Hardware watchpoint 2: *(long *)$frame"), "{text}");
    assert!(text.contains("vmm linux --kernel") && text.contains("an NMI is delivered at user"), "{text}");
    assert!(text.contains("the run ends: pass"), "{text}");
}

/// A defect of a kernel that was broken on purpose, from the end back; and an NMI more.
#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn an_nmi_arrives_where_a_real_kernel_stands() {
    if !gdb_is_there() {
        return;
    }
    let kernel = ["--kernel", env!("LINUX_TEST_KERNEL"), "--ram", "64", "--schedule", "nmi@user", "--listen", "0"];
    let text = Server::start(&kernel).gdb(&[
        "break *asm_exc_nmi",
        "continue",
        "monitor inject",
        "monitor state",
        "continue",
        "monitor state",
        "monitor line",
        "reverse-continue",
        "reverse-continue",
        "monitor state",
    ]);
    assert!(text.contains("an NMI arrives (at asm_exc_nmi)"), "{text}");
    assert!(text.contains("'nmi@user#1 nmi@asm_exc_nmi#1'"), "{text}");
    assert!(text.contains("NMIs that arrived: 2, and were delivered: 2"), "the second is delivered:\n{text}");
    assert!(text.contains("move 0 of ") && text.contains("No more reverse-execution history"), "{text}");
}

/// The line that a case of any kernel prints, whole, as it was copied.
#[test]
fn a_case_on_any_kernel_goes_back_to_the_writer_of_its_frame() {
    if !gdb_is_there() || !common::gcc::is_there() {
        return;
    }
    let all = common::gcc::copied_examples();
    let dir = all.path().join("os");
    common::gcc::must(Command::new("make").arg("-s").current_dir(&dir));
    let image = dir.join("os.elf").display().to_string();
    let line = format!("vmm kernel --image {image} --counter nmi_count --schedule 'nmi@work nmi@nmi_body'");
    let server = Server::start(&["--listen", "0", &line]);
    assert!(server.said.iter().any(|line| line.contains("livelock")), "{:?}", server.said);
    let text = server.gdb(&[
        "break *nmi_body",
        "continue",
        "print/x $rip == (long)&nmi_body",
        "monitor events",
        "monitor line",
        "reverse-continue",
        "monitor state",
    ]);
    for words in [
        "Breakpoint 1, ",
        "$1 = 0x1",
        "an NMI is delivered at work",
        "an NMI arrives, and is latched: NMIs are blocked (at nmi_body)",
        "vmm kernel --image ",
        "move 0 of ",
    ] {
        assert!(text.contains(words), "{words:?} is missing in:\n{text}");
    }
}

/// The words of a line, after `--`: Xen is entered again by its guest's HYPERVISOR_iret, from the end
/// back to who counted the second NMI.
#[test]
#[cfg_attr(not(debian_xen), ignore = "NOT RUN: no Xen (scripts/xen/fetch-debian-xen)")]
fn a_case_on_the_real_xen_goes_backwards_from_its_end() {
    if !gdb_is_there() {
        return;
    }
    let xen = ["xen.gz", "xen-syms"].map(|file| format!("{}/{file}", env!("DEBIAN_XEN")));
    let named = ["vmm", "xen", "--hypervisor", &xen[0], "--symbols", &xen[1], "--body", "ud", "--case-limit", "4000"];
    let schedule = ["--schedule", "nmi@pv_work nmi@pv_body"];
    let server = Server::start(&[&["--listen", "0", "--"], &named[..], &schedule].concat());
    assert!(server.said.iter().any(|line| line.contains("violation(I5")), "{:?}", server.said);
    let text = server.gdb(&[
        "continue",
        "print *(int *)&pv_nested",
        "watch *(int *)&pv_nested",
        "reverse-continue",
        "monitor state",
        "print *(int *)&pv_nested",
        "delete",
        "break *do_iret",
        "reverse-continue",
        "info symbol $rip",
        "monitor line",
    ]);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!((value("$1 ="), value("$2 =")), (Some("1"), Some("0")), "the last writer is found:\n{text}");
    assert!(text.contains("at pv_nmi+0x"), "it is the guest's callback:\n{text}");
    assert!(text.contains("Breakpoint 2, ") && text.contains("do_iret in section"), "{text}");
    assert!(text.contains("vmm xen --hypervisor ") && text.contains(" --body ud"), "{text}");
}

#[test]
fn a_line_that_is_no_case_is_refused() {
    for bad in ["vmm kernel --image k --site a --sweep", "vmm xen --hypervisor 'x", "vmm linux --kernel k"] {
        vmm(&["debug", bad]).exits(2).says(&["the line "]);
        vmm(&["explain", bad]).exits(2).says(&["the line "]);
    }
    for none in ["vmm kernel --image k", "vmm kernel --image k --site a --sweep", "vmm linux --kernel k --sweep"] {
        vmm(&["debug", none]).exits(2).says(&["the line ", "--schedule"]);
        vmm(&["explain", none]).exits(2).says(&["the line ", "--schedule"]);
    }
    vmm(&["debug", "--kernel", "k"]).exits(2).says(&["it has no --schedule"]);
}
