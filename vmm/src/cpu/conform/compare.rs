//! Where a scene leads to, on the model and on a host, and how the two differ.

use super::super::{Access, Cpu, End, Model, NotUnderstood, Ram, Segment, Untraced};
use super::scene::Scene;

/// How a host's run of a scene ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// A HLT at CPL 0.
    Halt,
    /// An OUT of this value.
    Out {
        /// Port number.
        port: u16,
        /// Value, zero-extended.
        value: u32,
    },
    /// An IN from this port.
    In {
        /// Port number.
        port: u16,
    },
    /// Triple fault.
    Shutdown,
    /// The host could not run it, in words.
    Failed(String),
}

/// A machine where a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Registers.
    pub cpu: Cpu,
    /// RAM.
    pub ram: Vec<u8>,
    /// How it ended.
    pub end: HostEnd,
    /// Words of memory, with the bits that are undefined: RFLAGS in frames.
    pub undefined: Vec<(u64, u64)>,
}

/// What came of a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both are the same.
    Same,
    /// The model does not say.
    NotUnderstood(NotUnderstood),
    /// The host could not run it.
    Failed(String),
    /// They differ; each line is a place with the model's value and the host's.
    Differs(Vec<String>),
}

/// Iterations of a string instruction, with what comes after it.
const STEPS: usize = 64;

/// Runs a scene on the model up to a HLT, a port, or a shutdown.
pub fn run_model(model: &mut Model, scene: &Scene) -> Result<Outcome, NotUnderstood> {
    let mut ram = scene.ram.clone();
    let mut cpu = scene.cpu;
    let mut log: Vec<Access> = Vec::new();
    let mut mem = Ram::new(&mut ram, &mut log);
    let mut undefined = Vec::new();
    for _ in 0..STEPS {
        let end = match model.step(&mut cpu, &mut mem, &mut Untraced) {
            End::Next => continue,
            End::Delivered(d) => {
                if cpu.undefined != 0 {
                    let at = cpu.regs.rsp.wrapping_add(if d.error_code.is_some() { 24 } else { 16 });
                    undefined.push((at, cpu.undefined));
                }
                continue;
            }
            End::Halt => HostEnd::Halt,
            End::Out { port, value, .. } => HostEnd::Out { port, value },
            End::In { port, .. } => HostEnd::In { port },
            End::Shutdown => HostEnd::Shutdown,
            End::NotUnderstood(why) => return Err(why),
        };
        return Ok(Outcome { cpu, ram, end, undefined });
    }
    Err(NotUnderstood::Undefined("the scene has no end"))
}

/// Compares what the model predicts of `scene` with what `host` makes of it.
pub fn compare(model: &mut Model, scene: &Scene, host: impl FnOnce(&Scene) -> Outcome) -> Verdict {
    let expected = match run_model(model, scene) {
        Ok(outcome) => outcome,
        Err(why) => return Verdict::NotUnderstood(why),
    };
    let found = host(scene);
    if let HostEnd::Failed(why) = found.end {
        return Verdict::Failed(why);
    }
    let differences = differences(&expected, &found, &scene.ram);
    if differences.is_empty() { Verdict::Same } else { Verdict::Differs(differences) }
}

/// The hidden part of a null selector, and what the architecture leaves open, is left out.
fn visible(s: &Segment, is_ss: bool) -> Segment {
    if s.selector & 0xfffc == 0 {
        return Segment {
            selector: s.selector,
            dpl: if is_ss { s.dpl } else { 0 },
            base: s.base,
            ..Segment::default()
        };
    }
    // AVL is software's, and KVM leaves the accessed bit to the hardware.
    Segment { avl: 0, type_: s.type_ | u8::from(s.s == 1), unusable: 0, ..*s }
}

fn differences(model: &Outcome, host: &Outcome, before: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |name: &str, m: String, h: String| {
        if m != h {
            out.push(format!("{name}: {m}, host {h}"));
        }
    };
    differ("end", format!("{:?}", model.end), format!("{:?}", host.end));
    if model.end == HostEnd::Shutdown {
        return out;
    }
    let (m, h) = (&model.cpu, &host.cpu);
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    for (n, name) in (0..).zip(NAMES) {
        differ(name, format!("{:#x}", m.gpr(n)), format!("{:#x}", h.gpr(n)));
    }
    differ("rip", format!("{:#x}", m.regs.rip), format!("{:#x}", h.regs.rip));
    let flags = |c: &Cpu| format!("{:#x}", c.regs.rflags & !m.undefined);
    differ("rflags", flags(m), flags(h));
    let (ms, hs) = (&m.sregs, &h.sregs);
    let segments = [
        ("cs", &ms.cs, &hs.cs),
        ("ds", &ms.ds, &hs.ds),
        ("es", &ms.es, &hs.es),
        ("fs", &ms.fs, &hs.fs),
        ("gs", &ms.gs, &hs.gs),
        ("ss", &ms.ss, &hs.ss),
        ("tr", &ms.tr, &hs.tr),
        ("ldt", &ms.ldt, &hs.ldt),
    ];
    for (name, m, h) in segments {
        let show = |s| format!("{:x?}", visible(s, name == "ss"));
        differ(name, show(m), show(h));
    }
    differ("gdt", format!("{:x?}", ms.gdt), format!("{:x?}", hs.gdt));
    differ("idt", format!("{:x?}", ms.idt), format!("{:x?}", hs.idt));
    for (name, m, h) in [
        ("cr0", ms.cr0, hs.cr0),
        ("cr2", ms.cr2, hs.cr2),
        ("cr3", ms.cr3, hs.cr3),
        ("cr4", ms.cr4, hs.cr4),
        ("cr8", ms.cr8, hs.cr8),
        ("efer", ms.efer, hs.efer),
        ("kernel_gs", m.kernel_gs, h.kernel_gs),
    ] {
        differ(name, format!("{m:#x}"), format!("{h:#x}"));
    }
    differ("nmi masked", m.events.nmi.masked.to_string(), h.events.nmi.masked.to_string());
    for (i, (m, h)) in m.msrs.values.iter().zip(h.msrs.values).enumerate() {
        differ(&format!("msr {:#x}", super::super::Msrs::NUMBERS[i]), format!("{m:#x}"), format!("{h:#x}"));
    }
    let pages = model.ram.chunks(4096).zip(host.ram.chunks(4096)).zip(before.chunks(4096));
    let changed = (0u64..).zip(pages).filter(|(_, ((m, h), _))| m != h);
    for (page, ((m, h), before)) in changed {
        let words = m.chunks(8).zip(h.chunks(8)).zip(before.chunks(8));
        for (i, ((m, h), before)) in (0u64..).zip(words).filter(|(_, ((m, h), _))| m != h) {
            let at = 4096 * page + 8 * i;
            let known = !model.undefined.iter().filter(|(u, _)| *u == at).fold(0, |mask, (_, m)| mask | m);
            let word = |b: &[u8]| b.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
            let shown = |b: &[u8]| format!("{:#x}", word(b) & known);
            differ(&format!("memory {at:#x} (was {:#x})", word(before)), shown(m), shown(h));
        }
    }
    out
}
