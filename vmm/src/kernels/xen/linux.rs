//! Linux as dom0, with the lab's user program.

use std::time::{Duration, Instant};

use super::dom0::{COUNTER, Dom0};
use crate::kernels::kernel::Alive;
use crate::kernels::linux::{GETPPID, INIT, complaint, nmi_counter, symbols_of_image, user, vmlinux, with_user};
use crate::kernels::pc::{Error, Module, Pc, Program, Stop};

/// Words for its command line: its console is Xen's, and what would only cost time is left out.
const WORDS: &str = "dom0 console=hvc0 reboot=k panic=-1 oops=panic pci=off nowatchdog \
    cryptomgr.notests random.trust_cpu=off mitigations=off";

/// Functions that its kernel does not return from.
const DEATHS: [&str; 3] = ["panic", "xen_reboot", "xen_halt"];

/// How long its kernel may take to call Xen again, by the clock.
const LIMIT: Duration = Duration::from_secs(60);

impl Dom0 {
    /// A bzImage that can be dom0, with an initial RAM disk of the user's, and words for its command line.
    pub fn linux(image: Vec<u8>, initrd: Vec<u8>, cmdline: &str) -> Result<Self, Error> {
        let elf = vmlinux(image)?;
        let mut symbols = symbols_of_image(&elf)?;
        let code = symbols.get("_stext").zip(symbols.get("_etext")).map(|(start, end)| start..end);
        let code = code.ok_or_else(|| Error::Symbols("there is no _stext".into()))?;
        let site = symbols.any(&GETPPID);
        let panics = DEATHS.iter().filter_map(|name| symbols.get(name)).collect();
        let (work, program) = user::work();
        symbols.name("init_work", work);
        if symbols.get("xen_start_kernel").is_none() {
            return Err(Error::Image(
                "it is built without CONFIG_XEN_PV, and cannot be dom0 (there is no xen_start_kernel)".into(),
            ));
        }
        let words = format!("{WORDS} rdinit={INIT} {cmdline}").trim().to_owned();
        Ok(Self {
            // Xen passes `noapic` on, and Linux refuses to run on Xen with it.
            words: "",
            code: vec![code, program],
            complaint: complaint(&symbols),
            symbols,
            modules: vec![
                // Unpacked: Xen had not done that in 240 s of CPU time where the host emulates CPL 0.
                Module { bytes: elf, words },
                Module { bytes: with_user(initrd), words: "initrd".into() },
            ],
            program: Program::own(user::checksum()),
            alive: Alive::Heartbeat,
            panics,
            counter: None,
            nested: None,
            depth: None,
            site,
            settle: Some(settle),
            choices: Vec::new(),
        })
    }
}

/// Runs to where its kernel calls Xen, since only a page table of its kernel's maps all of it, and GS's
/// base is that of its per-CPU data there.
fn settle(dom0: &Dom0, pc: &mut Pc) -> Result<(), Error> {
    let iret = pc.symbols.get("do_iret").ok_or_else(|| Error::Symbols("there is no do_iret".into()))?;
    let started = Instant::now();
    loop {
        match pc.run(&[iret], Duration::from_secs(10))? {
            Stop::At(_) => break,
            Stop::Heartbeat(_) | Stop::Mark | Stop::LdtMark | Stop::Idle if started.elapsed() < LIMIT => {}
            other => {
                let why = format!("{other:?} before its kernel returned to user code");
                return Err(Error::Boot { why, console: pc.console_tail(4) });
            }
        }
    }
    let state = pc.state();
    let (root, gs) = (state.sregs.cr3, state.sregs.gs.base);
    pc.set_page_table(root);
    let counter = nmi_counter(pc, &dom0.symbols, gs)?;
    pc.symbols.name(COUNTER, counter);
    Ok(())
}
