//! `vmm doctor`: what this machine can and cannot do for the lab.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::failure::{Ending, Failure};
use super::host;
use super::out::Out;
use super::output::OutputArgs;
use crate::host_id::HostId;
use crate::kernels::cache::kernel_cache;
use crate::kvm::Host;
use crate::probe::{Facts, Probe, Report, kept, probes};
use crate::report::{Checkup, CheckupItem as Item, CheckupState as State, Kind};
use crate::sandbox;

/// What `vmm doctor --help` ends with.
pub const HELP: &str = "\
Looks at KVM, at what this kernel offers for the sandbox, and at the programs that scripts and
tests call. What is not as it should be is shown with what it is for and how it is cured.

Examples:
  vmm doctor
  vmm doctor --json

Exits 0 where guests can be run, whatever else is missing, and 69 where they cannot.";

/// `vmm doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out the command.
pub fn doctor(args: &Doctor, bare: bool, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind { judges: true, page: false })?;
    let mut items = kvm(bare);
    items.extend([sandbox_item(bare), cpus(), cache(&HostId::here())]);
    items.extend(TOOLS.iter().map(Tool::item));
    items.push(test_kernel(&kernel_cache().join("vmlinux")));
    let checkup = Checkup::new(env!("CARGO_PKG_VERSION"), items);
    outputs.write(&checkup, out)?;
    Ok(if checkup.usable { Ending::Expected } else { Ending::Unusable })
}

/// What is true of an item that is as it should be.
fn good(name: &'static str, purpose: &'static str, found: String) -> Item {
    Item { name, state: State::Good, found, purpose, cure: None, required: false }
}

/// KVM itself, and what every verdict stands on.
fn kvm(bare: bool) -> Vec<Item> {
    const PURPOSE: &str = "every command that runs a guest";
    let opened = match Host::open() {
        Ok(host) => host,
        Err(why) => {
            // The message holds the cure.
            let missing = good("KVM", PURPOSE, why.to_string());
            return vec![Item { state: State::Missing, required: true, ..missing }];
        }
    };
    // Its fingerprint is made of its answers, where there are some.
    let (id, nmis) = match host::measure(&probes().collect::<Vec<&Probe>>(), bare) {
        Ok(report) => (report.host.to_string(), exact(&report)),
        Err(why) => {
            let unknown = good("NMIs", "every verdict", format!("KVM cannot be measured: {why}"));
            (opened.id().to_string(), Item { state: State::Missing, required: true, ..unknown })
        }
    };
    vec![Item { required: true, ..good("KVM", PURPOSE, id) }, nmis, msrs(&opened), nested()]
}

/// Whether an NMI arrives where it is raised, and how much else is not as the architecture says.
fn exact(report: &Report) -> Item {
    let wrong = report.rows.iter().filter(|row| !report.is_right(&row.id)).count();
    let item = Item { required: true, ..good("NMIs", "every verdict", String::new()) };
    if !Facts::of(report).exact_nmi {
        return Item {
            state: State::Missing,
            found: "this KVM does not deliver an NMI at the boundary where it is raised".into(),
            cure: Some("scripts/hosts/svm runs the same command line on an emulated machine".into()),
            ..item
        };
    }
    let all = report.rows.len();
    match wrong {
        0 => Item { found: format!("exact; all of {all} answers are the architecture's"), ..item },
        _ => Item {
            state: State::Limited,
            found: format!("exact; {wrong} of {all} answers are not the architecture's"),
            purpose: "what a verdict of this host can show (host-limit where it cannot)",
            cure: Some("`vmm probe` lists them, with what the lab does about each".into()),
            ..item
        },
    }
}

fn msrs(host: &Host) -> Item {
    const PURPOSE: &str = "guests that execute WRMSR";
    match host.filters_msrs() {
        true => good("MSR filter", PURPOSE, "writes to registers that are not carried are seen".into()),
        false => Item {
            state: State::Limited,
            found: "this KVM has none (KVM_CAP_X86_MSR_FILTER): such guests end in host-limit".into(),
            cure: Some("Linux 5.10 or newer".into()),
            ..good("MSR filter", PURPOSE, String::new())
        },
    }
}

/// Whether guests of this KVM can have a KVM of their own.
fn nested() -> Item {
    const PURPOSE: &str = "running vmm inside a virtual machine of this one";
    let read = |module: &str| std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok();
    match read("kvm_intel").or_else(|| read("kvm_amd")) {
        Some(value) if matches!(value.trim(), "1" | "Y" | "y") => good("nested KVM", PURPOSE, "switched on".into()),
        Some(_) => Item {
            state: State::Limited,
            found: "switched off".into(),
            cure: Some("load kvm_intel or kvm_amd with nested=1".into()),
            ..good("nested KVM", PURPOSE, String::new())
        },
        None => Item {
            state: State::Limited,
            found: "neither kvm_intel nor kvm_amd is loaded here".into(),
            ..good("nested KVM", PURPOSE, String::new())
        },
    }
}

fn sandbox_item(bare: bool) -> Item {
    const PURPOSE: &str = "giving up what is not needed before a guest runs or a file is parsed";
    let item = good("sandbox", PURPOSE, "Landlock restricts files".into());
    match sandbox::available() {
        Ok(()) => item,
        Err(why) => Item {
            state: if bare { State::Limited } else { State::Missing },
            found: why.to_string(),
            cure: Some("--no-sandbox runs without".into()),
            required: !bare,
            ..item
        },
    }
}

fn cpus() -> Item {
    good("CPUs", "--jobs, which is one per CPU unless told otherwise", host::cpus().to_string())
}

/// The folder in which the probe's answers, kernels and machines are kept.
fn cache(host: &HostId) -> Item {
    const PURPOSE: &str = "keeping what was measured of this KVM, and Linux machines that came up";
    let item = good("cache", PURPOSE, String::new());
    let Some(dir) = kept::place(host).as_deref().and_then(Path::parent).map(Path::to_owned) else {
        return Item {
            state: State::Limited,
            found: "there is no place for it: neither HOME nor XDG_CACHE_HOME is an absolute path".into(),
            cure: Some("set XDG_CACHE_HOME".into()),
            ..item
        };
    };
    let writable = std::fs::create_dir_all(&dir).and_then(|()| tempfile_in(&dir));
    match writable {
        Ok(()) => Item { found: dir.display().to_string(), ..item },
        Err(why) => Item {
            state: State::Limited,
            found: format!("{}: {why}", dir.display()),
            cure: Some("make it writable, or set XDG_CACHE_HOME".into()),
            ..item
        },
    }
}

/// Makes a file there, and takes it away again.
fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!("doctor-{}", std::process::id()));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)
}

/// A program that scripts, tests or users call.
struct Tool {
    /// Its name in PATH.
    name: &'static str,
    /// What calls it.
    purpose: &'static str,
    /// The Debian package that has it.
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "gcc",
        purpose: "your own entry code and kernels (vmm init), and the tests",
        package: "gcc libc6-dev",
    },
    Tool { name: "make", purpose: "your own entry code and kernels (vmm init), and the tests", package: "make" },
    Tool { name: "gdb", purpose: "`vmm debug`, and its tests", package: "gdb" },
    Tool { name: "chromium", purpose: "the tests of pages; any browser shows them", package: "chromium" },
    Tool {
        name: "qemu-system-x86_64",
        purpose: "scripts/hosts/svm (a machine with kvm_amd) and scripts/baseline",
        package: "qemu-system-x86",
    },
    Tool { name: "python3", purpose: "scripts/docs and scripts/baseline", package: "python3" },
];

impl Tool {
    fn item(&self) -> Item {
        let item = good(self.name, self.purpose, String::new());
        match in_path(self.name) {
            Some(path) => Item { found: path.display().to_string(), ..item },
            None => Item {
                state: State::Limited,
                found: "is not in PATH".into(),
                cure: Some(format!("sudo apt install {}", self.package)),
                ..item
            },
        }
    }
}

/// The first file of this name in PATH that may be executed.
fn in_path(name: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    let executable =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&dirs).map(|dir| dir.join(name)).find(executable)
}

/// The tiny Linux kernel of the tests and of the guide's examples.
fn test_kernel(path: &Path) -> Item {
    let item = good("a Linux kernel", "the examples and tests of `vmm linux`; any kernel will do", String::new());
    match path.is_file() {
        true => Item { found: path.display().to_string(), ..item },
        false => Item {
            state: State::Limited,
            found: format!("{} is not there", path.display()),
            cure: Some("scripts/linux/build-test-kernel, in a checkout; four minutes, once".into()),
            ..item
        },
    }
}
