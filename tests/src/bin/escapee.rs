//! Enters the sandbox as a command does that reads `read` and writes to `out` in the folder it is
//! started in, and then tries to do in a thread what its argument names. Exits with 0 where that
//! succeeded, and with 33 where the kernel refused it by an error; the sandbox ends it with 70.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use vmm::kvm::{Exit, Host, Vm};
use vmm::sandbox::{Calls, Files, enter};

/// Deeds by their names.
fn attempt(deed: &str, parent: nix::unistd::Pid) -> Result<(), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    match deed {
        // What must go on to work.
        "read" => std::fs::read("read").map(drop).map_err(|e| said(&e)),
        "write" => std::fs::write("out/new", "x").map_err(|e| said(&e)),
        "rename" => std::fs::rename("out/new", "out/other").map_err(|e| said(&e)),
        "guest" => guest().map_err(|e| said(&e)),
        // What must not.
        "read-other" => File::open("other").map(drop).map_err(|e| said(&e)),
        "read-above" => File::open("out/../other").map(drop).map_err(|e| said(&e)),
        "write-read" => std::fs::write("read", "x").map_err(|e| said(&e)),
        "write-other" => std::fs::write("new", "x").map_err(|e| said(&e)),
        "write-program" => std::env::current_exe().and_then(|p| std::fs::write(p, "x")).map_err(|e| said(&e)),
        "list-root" => std::fs::read_dir("/").map(drop).map_err(|e| said(&e)),
        "memory-of-parent" => File::open(format!("/proc/{parent}/mem")).map(drop).map_err(|e| said(&e)),
        "unlink" => std::fs::remove_file("other").map_err(|e| said(&e)),
        "rename-out" => std::fs::rename("out/seed", "escaped").map_err(|e| said(&e)),
        "symlink" => std::os::unix::fs::symlink("/etc/passwd", "out/link").map_err(|e| said(&e)),
        "socket" => TcpListener::bind("127.0.0.1:0").map(drop).map_err(|e| said(&e)),
        "socket-pair" => UnixStream::pair().map(drop).map_err(|e| said(&e)),
        "program" => Command::new("/bin/true").status().map(drop).map_err(|e| said(&e)),
        "itself" => std::env::current_exe().and_then(|p| Command::new(p).status()).map(drop).map_err(|e| said(&e)),
        "kill-parent" => nix::sys::signal::kill(parent, None).map_err(|e| said(&e)),
        "trace-parent" => nix::sys::ptrace::attach(parent).map_err(|e| said(&e)),
        "become-nobody" => nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).map_err(|e| said(&e)),
        "raise-limit" => {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_CORE, 1 << 20, 1 << 20).map_err(|e| said(&e))
        }
        "chdir" => std::env::set_current_dir("/").map_err(|e| said(&e)),
        "terminal-input" => nix::unistd::setsid().map(drop).map_err(|e| said(&e)),
        other => Err(format!("{other} is no deed")),
    }
}

/// Runs a guest of one HLT.
fn guest() -> Result<(), Box<dyn std::error::Error>> {
    let host = HOST.get().ok_or("no host")?;
    let mut vm = Vm::new(host, 1 << 20)?;
    vm.ram_mut()[0x1000] = 0xf4;
    (vm.state_mut().sregs.cs.base, vm.state_mut().sregs.cs.selector) = (0, 0);
    vm.state_mut().regs.rip = 0x1000;
    match vm.run()? {
        Exit::Hlt => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

static HOST: std::sync::OnceLock<Host> = std::sync::OnceLock::new();

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let deed = args.next().unwrap_or_default();
    let free = args.next().is_some_and(|arg| arg == "--free");
    let _ = HOST.set(Host::open().expect("KVM"));
    let parent = nix::unistd::getppid();
    if !free {
        let files = Files { read: vec!["read".into()], write: vec![], folders: vec!["out".into()], sockets: vec![] };
        enter(&files, Calls::Usual).expect("a kernel with Landlock and seccomp");
    }
    match std::thread::spawn(move || attempt(&deed, parent)).join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => {
            std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes()).expect("stderr");
            ExitCode::from(33)
        }
        Err(_) => ExitCode::from(101),
    }
}
