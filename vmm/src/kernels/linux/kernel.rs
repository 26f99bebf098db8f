//! Linux, as the lab runs it.

use std::io::Write;
use std::ops::Range;

use super::{Options, entry, hooks, initrd, user, warning};
use crate::kernels::entry::EntryPath;
use crate::kernels::fault_by::{Detour, Fault, FaultBy};
use crate::kernels::kernel::{HandlerGs, Holds, Kernel, Vital};
use crate::kernels::pc::{Board, Error, KERNEL_MAP, KernelSymbols, PageFault, Pc, Program};
use crate::kvm::{Host, Vm};
use crate::oracle::Invariant;

/// A Linux kernel, and how it is booted.
pub struct Linux {
    /// The unpacked kernel; empty where one is resumed.
    pub elf: Vec<u8>,
    /// Its symbols.
    pub symbols: KernelSymbols,
    /// Command line, RAM, initial RAM disk.
    pub options: Options,
}

/// What the PC, the command line and the user program are: to be counted up with any change
/// that makes a kernel come up otherwise, since saved machines are good for one number only.
const REVISION: u32 = 5;

impl Linux {
    /// What a saved machine of this kernel is known by: it changes with all that the kernel
    /// comes up from.
    pub fn key(&self, host: &Host) -> String {
        let o = &self.options;
        let number = |bytes: &[u8]| xxhash_rust::xxh3::xxh3_64(bytes);
        let parts = format!(
            "{} {REVISION} {} {:016x} {:016x} {:016x} {} {:016x} {:?} {}",
            env!("CARGO_PKG_VERSION"),
            host.id().fingerprint,
            Vm::cpuid_number(host),
            number(&self.elf),
            number(&o.initrd),
            o.ram_mib,
            number(&user::elf()),
            self.symbols.source,
            o.command_line(false, None),
        );
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(parts.as_bytes()))
    }
}

/// Functions that getppid runs through, one of which every kernel has.
pub const GETPPID: [&str; 3] = ["__x64_sys_getppid", "__do_sys_getppid", "sys_getppid"];

/// The kernel's own page table, which maps all of the kernel and nothing of a process.
const PAGE_TABLE: [&str; 2] = ["init_top_pgt", "init_level4_pgt"];

/// Words that an NMI leaves as they were: the kernel's names, its bytes, when they hold, how
/// it is called, what a change means.
const VITALS: [(&[&str], usize, Holds, &str, &str); 3] = [
    (
        &["tainted_mask"],
        8,
        Holds::Always,
        "tainted_mask",
        "has tainted itself, as it does at a warning, an oops and a report",
    ),
    (&["__preempt_count", "pcpu_hot+0x8"], 4, Holds::AtHome, "preempt count", "has not left what it entered"),
    (&["oops_in_progress"], 4, Holds::Always, "oops_in_progress", "is in an oops"),
];

impl Kernel for Linux {
    fn name(&self) -> &'static str {
        "Linux"
    }

    fn twin(&self) -> Box<dyn Kernel> {
        Box::new(Linux { elf: Vec::new(), symbols: self.symbols.clone(), options: self.options.clone() })
    }

    fn load(&self, host: &Host, echo: Option<Box<dyn Write + Send>>) -> Result<Pc, Error> {
        if self.elf.is_empty() {
            return Err(Error::Image("there is none: this kernel is resumed from a file".into()));
        }
        let program = Program::own(user::checksum());
        let board = Board { ram_bytes: self.options.ram_bytes()?, apic: false, plain: false };
        let mut pc = Pc::new(host, board, self.symbols.clone(), program, echo)?;
        pc.set_hooks(hooks::hooks(&self.symbols));
        let init = initrd::with_init(self.options.initrd.clone(), &user::elf());
        let hidden = pc.shows_hidden_cpuid();
        if hidden {
            pc.note_words();
        }
        let cmdline = self.options.command_line(hidden, pc.tsc_khz());
        pc.load(&self.elf, &init, &cmdline)?;
        Ok(pc)
    }

    fn settle(&self, pc: &mut Pc) -> Result<(), Error> {
        let root = self.symbols.any(&PAGE_TABLE).and_then(|at| at.checked_sub(KERNEL_MAP));
        pc.set_page_table(
            root.ok_or_else(|| Error::Symbols("there is no init_top_pgt, the kernel's page table".into()))?,
        );
        pc.note_gs()?;
        quieten(pc)?;
        warning::silence(pc)?;
        set_breakpoint(pc)
    }

    fn nmi_path(&self, pc: &Pc) -> Result<EntryPath, Error> {
        entry::nmi_path(pc)
    }

    fn vitals(&self, pc: &Pc) -> Result<Vec<Vital>, Error> {
        let mut out = Vec::new();
        for (names, bytes, holds, name, means) in VITALS {
            let Some(addr) = find(&self.symbols, names) else { continue };
            let addr = if addr < KERNEL_MAP { addr.wrapping_add(pc.kernel_gs()?) } else { addr };
            let mut value = [0; 8];
            if !pc.read(addr, &mut value[..bytes]) {
                return Err(Error::Unreadable { what: name, addr });
            }
            let breaks = if holds == Holds::AtHome { Invariant::AtRest } else { Invariant::NoFault };
            out.push(Vital { name, addr, value: u64::from_le_bytes(value), holds, breaks, means });
        }
        Ok(out)
    }

    fn unchecked(&self) -> Vec<&'static str> {
        let missing = VITALS.iter().filter(|(names, ..)| find(&self.symbols, names).is_none());
        let breakpoint = self.symbols.get("cpu_dr7").is_none().then_some("debug registers in use (no cpu_dr7)");
        missing.map(|(_, _, _, name, _)| *name).chain(breakpoint).collect()
    }

    /// A write to a kernel page that is writable, as after its protection was lifted while this
    /// CPU's TLB still had the old entry: `spurious_kernel_fault`. It is the one fault that every
    /// kernel since 2.6.25 returns from without the help of the code that faults. A vmalloc
    /// fault (before 5.8) and an access with a fixup return in the same way, through more C code.
    fn resolvable_fault(&self, path: &EntryPath) -> Option<PageFault> {
        const PROTECTION: u32 = 1 << 0; // SDM vol. 3, 4.7
        const WRITE: u32 = 1 << 1;
        Some(PageFault { address: path.counter?, code: PROTECTION | WRITE })
    }

    /// A kernel for one CPU (it has no `__per_cpu_offset`) reaches nothing by GS but the stack
    /// protector's canary. There, paranoid entry by FSGSBASE loads the pointer
    /// `pcpu_unit_offsets` as GS's base, and not what it points to (GET_PERCPU_BASE in
    /// arch/x86/entry/calling.h).
    fn handler_gs(&self, pc: &Pc) -> Result<Option<(u64, HandlerGs)>, Error> {
        let Some(code) = self.symbols.any(&entry::HANDLERS) else { return Ok(None) };
        let relies = ["__per_cpu_offset", "__stack_chk_fail"].iter().any(|name| self.symbols.get(name).is_some());
        let user = pc.user_gs().filter(|_| !relies);
        Ok(Some((code, user.map_or(HandlerGs::Is(pc.kernel_gs()?), HandlerGs::IsNot))))
    }

    fn fault(&self, pc: &Pc, path: &EntryPath, by: FaultBy) -> Result<Option<Fault>, Error> {
        Ok(Some(match by {
            FaultBy::Spurious => return Ok(self.resolvable_fault(path).map(Fault::Page)),
            FaultBy::Breakpoint => Fault::Breakpoint,
            FaultBy::Warn => {
                let (start, end) = warning::ud2(pc)?;
                Fault::Detour(Detour::From { start, end })
            }
            FaultBy::Fixup => match self.symbols.get("copy_from_user_nmi") {
                // To what nothing is written to, from the first user page, which is never mapped.
                Some(function) => {
                    let to = pc.state().regs.rsp - 0x200;
                    Fault::Detour(Detour::Call { function, arguments: [to, 0, 8] })
                }
                None => {
                    let function = self.symbols.get("__get_user_8");
                    let missing = || Error::Symbols("there is neither copy_from_user_nmi nor __get_user_8".into());
                    Fault::Detour(Detour::Call { function: function.ok_or_else(missing)?, arguments: [0; 3] })
                }
            },
        }))
    }

    fn default_site(&self) -> Result<u64, Error> {
        let why = "this kernel has no function for getppid; name the first NMI's place (--site)";
        self.symbols.any(&GETPPID).ok_or_else(|| Error::Symbols(why.into()))
    }

    fn entry_code(&self, symbols: &KernelSymbols) -> Vec<Range<u64>> {
        let range = symbols.get("__entry_text_start").zip(symbols.get("__entry_text_end"));
        let sound = range.filter(|(start, end)| start < end && end - start < 0x10_0000);
        sound.map(|(start, end)| start..end).into_iter().collect()
    }

    fn version(&self, console: &str) -> Option<String> {
        let line = console.lines().find_map(|l| l.find("Linux version ").map(|at| &l[at..]))?;
        Some(line.split(" (").next().unwrap_or(line).to_owned())
    }
}

/// The address of the first of `names` that there is; a name may have an offset.
fn find(symbols: &KernelSymbols, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| match name.split_once("+0x") {
        Some((name, offset)) => Some(symbols.get(name)? + u64::from_str_radix(offset, 16).ok()?),
        None => symbols.get(name),
    })
}

/// Sets a hardware breakpoint at an address where nothing ever executes, and tells the kernel
/// that it is there. So the handler has to switch it off and on again, as for a debugger.
/// A kernel without `cpu_dr7` is left without one.
fn set_breakpoint(pc: &mut Pc) -> Result<(), Error> {
    const NOWHERE: u64 = 0x10; // the first page is never mapped
    const GLOBAL_0: u64 = 1 << 1; // SDM vol. 3, 17.2.4
    let Some(addr) = pc.symbols.get("cpu_dr7") else { return Ok(()) };
    let addr = if addr < KERNEL_MAP { addr.wrapping_add(pc.kernel_gs()?) } else { addr };
    pc.write_kernel("cpu_dr7", addr, &GLOBAL_0.to_le_bytes())?;
    pc.set_breakpoint(NOWHERE, GLOBAL_0)
}

/// Takes away what would make a case's path depend on how fast the host is: the
/// kernel's measuring of its NMI handlers (over `nmi_longest_ns` it says so, which is
/// thousands of instructions). And what is less than a warning goes no longer to the
/// console. A kernel that has neither name needs neither.
fn quieten(pc: &mut Pc) -> Result<(), Error> {
    const WARNINGS: u32 = 5; // levels below go out; KERN_WARNING is 4
    if let Some(addr) = pc.symbols.get("console_printk") {
        pc.write_kernel("console_printk", addr, &WARNINGS.to_le_bytes())?;
    }
    if let Some(addr) = pc.symbols.get("nmi_longest_ns") {
        pc.write_kernel("nmi_longest_ns", addr, &(u64::MAX >> 1).to_le_bytes())?;
    }
    Ok(())
}
