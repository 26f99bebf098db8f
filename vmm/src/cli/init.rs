//! `vmm init`: a starting point for a user's own entry code or kernel, out of the binary itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Ending, Failure};
use super::out::Out;

/// What `vmm init --help` ends with.
pub const HELP: &str = "\
The folder gets include/nmi_lab.h (the contract with the lab), entry-only/ (an NMI's entry and exit
for --entry), minimal-asm/ and c-kernel/ (whole guests for --guest), each with a Makefile and a
README, ci/ (a workflow for GitHub Actions), cluster/ (Slurm and Kubernetes), campaigns/ (one of your
own, mine.toml, and the lab's) and schemas/ (of all JSON output).

Examples:
  vmm init my-lab
  make -C my-lab/entry-only
  vmm campaign my-lab/campaigns/mine.toml --entry my-lab/entry-only/my_nmi.o

A file that is there already is never written over.";

/// `vmm init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder, which is made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// A file of the checkout, and where it goes.
struct Carried {
    place: &'static str,
    bytes: &'static [u8],
}

macro_rules! carried {
    ($($from:literal / $($file:literal),+ => $to:literal;)+) => {
        &[$($(Carried {
            place: concat!($to, "/", $file),
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $from, "/", $file)),
        },)+)+]
    };
}

/// A test holds this list to what the folders have.
const CARRIED: &[Carried] = carried! {
    "scripts/examples" / ".gitignore" => ".";
    "scripts/examples/include" / "nmi_lab.h" => "include";
    "scripts/examples/entry-only" / "Makefile", "README.md", "my_nmi.S" => "entry-only";
    "scripts/examples/minimal-asm" / "Makefile", "README.md", "minimal.S", "minimal.ld", "pairs.toml" => "minimal-asm";
    "scripts/examples/c-kernel" / "Makefile", "README.md", "entry.S", "kernel.c", "kernel.ld" => "c-kernel";
    "scripts/examples/ci" / "github.yml" => "ci";
    "scripts/cluster" / "kubernetes.yaml", "slurm.sh" => "cluster";
    "scripts/examples/os" / "Makefile", "README.md", "os.S", "os.ld" => "os";
    "scripts/examples/pv-guest" / "Makefile", "README.md", "guest.S", "guest.ld" => "pv-guest";
    "scripts/campaigns" / "agreement.toml", "breakpoints.toml", "closure-external.toml", "closure.toml", "external.toml",
        "faulting-iret.toml", "history-debug.toml", "history-espfix.toml", "history-kpti.toml", "history-state.toml",
        "history-switch.toml", "history-user.toml", "history.toml", "iret-window.toml",
        "linux-debian.toml", "linux-test-kernel.toml", "matrix.toml", "native-vs-pv-pairs.toml", "native-vs-pv.toml",
        "quick.toml", "smi.toml", "traps.toml", "unmask.toml", "xen.toml" => "campaigns";
    "docs/schemas" / "agree.json", "bench.json", "boundaries.json", "compare.json", "doctor.json", "explain.json",
        "explore.json", "kernel-costs.json", "kernel-run.json", "linux-bench.json", "linux-boundaries.json", "linux-case.json", "linux-explore.json", "linux.json", "necessity.json",
        "probe-compare.json", "probe-model.json", "probe.json", "run.json", "scenarios.json", "schemes.json"
        => "schemas";
};

/// A campaign over the scenarios that ask the most, in the order of the guide.
const MINE: &str = "\
# Your entry code in the scenarios that ask the most:
#
#     vmm campaign mine.toml --entry ../entry-only/my_nmi.o
#
# Each row searches every number, timing and nesting of NMIs. Write below [expect.mine] what you know
# to fail and why; the day on which it passes is then noticed, too.
name = \"mine\"
schemes = [\"mine\"]
scenarios = [\"quiet\", \"short-ud-fault\", \"short-vmalloc-fault\", \"cr2-race\", \"flags\", \"shadows\"]
generate = \"closure\"
";

/// Carries out the command.
pub fn init(args: &Init, out: &mut Out) -> Result<Ending, Failure> {
    let mine = Carried { place: "campaigns/mine.toml", bytes: MINE.as_bytes() };
    let (mut made, mut kept) = (0, Vec::new());
    for file in CARRIED.iter().chain([&mine]) {
        let path = args.dir.join(file.place);
        match write_new(&path, file.bytes) {
            Ok(()) => made += 1,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => kept.push(file.place),
            Err(e) => return Err(Failure::writing(&path)(e)),
        }
    }
    let dir = args.dir.display();
    out.line(&format!("{dir}: {made} files made, {} there already and left as they are", kept.len()))?;
    for place in kept {
        out.line(&format!("  left: {place}"))?;
    }
    out.line(&format!(
        "\nNext:\n  make -C {dir}/entry-only\n  vmm campaign {dir}/campaigns/mine.toml --entry {dir}/entry-only/my_nmi.o"
    ))?;
    Ok(Ending::Expected)
}

/// Writes a file that is not there yet, and the folders above it.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mode = if bytes.starts_with(b"#!") { 0o777 } else { 0o666 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
}
