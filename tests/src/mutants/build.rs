//! From assembly text to an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use vmm::image::target::Target;
use vmm::image::{Guest, Image};

use super::{Error, Mutant};

/// What a small guest's handler is, besides what a mutant adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// NMIs do not nest.
    Flat,
    /// Nested NMIs make the live one repeat its body.
    Nested,
    /// The hypervisor delivers NMIs.
    Pv,
}

/// All of them.
pub const MADE: [Made; 3] = [Made::Flat, Made::Nested, Made::Pv];

/// How far what is written lies from its physical address in an aliased guest.
pub const HIGH: u64 = 0x4000_0000;

/// The system's assembler and linker, with the guest that mutants are linked to.
#[derive(Debug)]
pub struct Toolchain {
    dir: PathBuf,
    sources: PathBuf,
}

impl Toolchain {
    /// Assembles the guest, once for each handler, in `dir`. Needs gcc.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = tests.join("guests/proof");
        let out = Self { dir: dir.to_owned(), sources };
        let include = format!("-I{}", tests.join("../scripts/examples/include").display());
        for made in MADE {
            let define = match made {
                Made::Flat => "-DFLAT",
                Made::Nested => "-DNESTED",
                Made::Pv => "-DPV",
            };
            run(
                "gcc",
                Command::new("gcc")
                    .args(["-c", &include, define, "-o"])
                    .arg(out.guest(made))
                    .arg(out.sources.join("guest.S")),
            )?;
        }
        // Code may lie in what is written, and what is written in code.
        let script = std::fs::read_to_string(out.sources.join("guest.ld"))?.replace("FLAGS(6)", "FLAGS(7)");
        std::fs::write(out.script(true), script)?;
        Ok(out)
    }

    fn guest(&self, made: Made) -> PathBuf {
        self.dir.join(format!("{made:?}.o"))
    }

    fn script(&self, executable: bool) -> PathBuf {
        if executable { self.dir.join("executable.ld") } else { self.sources.join("guest.ld") }
    }

    /// The guest as it is, with one of its handlers.
    pub fn plain(&self, made: Made) -> Result<Mutant, Error> {
        self.mutant(format!("the guest itself: {made:?}"), made, false, false, String::new())
    }

    /// Makes a guest of `text`, which replaces the functions that are weak in guest.S.
    pub fn mutant(
        &self,
        name: String,
        made: Made,
        aliased: bool,
        executable: bool,
        text: String,
    ) -> Result<Mutant, Error> {
        let id = std::thread::current().id();
        let file = |extension: &str| self.dir.join(format!("{id:?}.{extension}"));
        std::fs::write(file("s"), &text)?;
        run("as", Command::new("as").args(["--64", "-o"]).arg(file("o")).arg(file("s")))?;
        let high = format!("HIGH={:#x}", if aliased { HIGH } else { 0 });
        run(
            "ld",
            Command::new("ld")
                .args(["-static", "--build-id=none", "-z", "noexecstack", "--no-warn-rwx-segments", "--defsym", &high])
                .arg("-T")
                .arg(self.script(executable))
                .arg("-o")
                .arg(file("elf"))
                .args([self.guest(made), file("o")]),
        )?;
        let guest = Guest::new(Image::parse(&std::fs::read(file("elf"))?)?);
        let Target { scheme, scenario } = Target::find(&guest.image.declared, "kind", "sum", None)?;
        Ok(Mutant { name, guest, scheme, scenario, text })
    }
}

fn run(tool: &'static str, command: &mut Command) -> Result<(), Error> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::Tool { tool, message: String::from_utf8_lossy(&out.stderr).into_owned() })
}
