//! Where hosts are known to do other than the model, which does as the SDM says. A difference
//! is excused only where each of its lines is one of these.

/// One known deviation.
#[derive(Debug)]
pub struct Deviation {
    /// A short name.
    pub id: &'static str,
    /// Forms, by the beginning of their names; empty for any.
    forms: &'static [&'static str],
    /// CPLs.
    cpls: &'static [u8],
    /// Places that may differ, by the beginning of the lines that tell of them.
    places: &'static [&'static [&'static str]],
    /// One of these must be among them.
    needs: &'static [&'static str],
    /// What the host does.
    pub what: &'static str,
}

const ANY: &[&str] = &[""];
/// The model and the host do not stand at the same instruction: only one of them has raised an
/// exception.
const ELSEWHERE: &[&str] = &["rip:"];
/// General registers.
const GENERAL: &[&str] = &[
    "rax:", "rbx:", "rcx:", "rdx:", "rsi:", "rdi:", "rsp:", "rbp:", "r8:", "r9:", "r10:", "r11:", "r12:", "r13:",
    "r14:", "r15:",
];
const BOTH: &[u8] = &[0, 3];
const DATA_SEGMENTS: &[&str] = &["ds", "es", "fs", "gs"];

/// Seen on kvm_pvm, whose CPL 0 is KVM's emulator and whose CPL 3 is the processor's.
const DEVIATIONS: &[Deviation] = &[
    Deviation {
        id: "fault-in-delivery",
        forms: ANY,
        cpls: BOTH,
        places: &[&["cr2", "memory 0x14fe8"]],
        needs: ANY,
        what: "a fault while a fault is delivered: CR2 stays the first's, and #DF's frame has RF set",
    },
    Deviation {
        id: "call-pushes-first",
        forms: &["call"],
        cpls: &[3],
        places: &[&["memory"]],
        needs: ANY,
        what: "a CALL that faults for its target has written the return address (Intel)",
    },
    Deviation {
        id: "cmps-order",
        forms: &["cmps", "repe cmps"],
        cpls: &[3],
        places: &[&["rip", "cr2", "memory 0x13fd0", "memory 0x15fd0"]],
        needs: ANY,
        what: "CMPS reads (RDI) before (RSI)",
    },
    Deviation {
        id: "cmpxchg-upper-half",
        forms: &["cmpxchg"],
        cpls: &[0],
        places: &[GENERAL],
        needs: ANY,
        what: "CMPXCHG of 32 bits that fails clears the upper half of its destination",
    },
    Deviation {
        id: "int-at-cpl3",
        forms: &["int1", "int3", "int n"],
        cpls: &[3],
        places: &[&["rip", "rsp", "memory"]],
        needs: ANY,
        what: "INT n gives #UD, INT1 saves its own RIP, INT3 with an odd RSP gives #UD",
    },
    Deviation {
        id: "return-keeps-segments",
        forms: &["iretq", "lretq", "lretl"],
        cpls: &[0],
        places: &[DATA_SEGMENTS],
        needs: ANY,
        what: "a return to CPL 3 keeps data segments of CPL 0",
    },
    Deviation {
        id: "bad-return",
        forms: &["iretq", "lretq", "lretl"],
        cpls: BOTH,
        places: &[DATA_SEGMENTS, &["cs", "ss", "rip", "rsp", "rflags", "cr2", "nmi masked", "memory"]],
        needs: ANY,
        what: "returns with a bad selector or RIP fault elsewhere, otherwise, or not at all",
    },
    Deviation {
        id: "ltr-error-code",
        forms: &["ltr"],
        cpls: &[0],
        places: &[&["memory"]],
        needs: ANY,
        what: "LTR of a selector with TI set: error code 0",
    },
    Deviation {
        id: "selector-width",
        forms: &["mov from sreg", "sldt", "str"],
        cpls: BOTH,
        places: &[&["memory"]],
        needs: ANY,
        what: "a selector is stored in memory with the operand's size, not 16 bits",
    },
    Deviation {
        id: "cpl3-selectors",
        forms: &["mov from sreg", "mov to", "pop fs", "pop gs", "push fs", "push gs"],
        cpls: &[3],
        places: &[GENERAL, DATA_SEGMENTS, &["memory"]],
        needs: ANY,
        what: "segment registers of CPL 3 are the host's own",
    },
    Deviation {
        id: "popf-ac",
        forms: &["popf"],
        cpls: &[3],
        places: &[&["rflags"]],
        needs: ANY,
        what: "an entry from CPL 3 clears AC",
    },
    Deviation {
        id: "fsgsbase",
        forms: &["rdfs", "rdgs", "wrfs", "wrgs"],
        cpls: BOTH,
        places: &[GENERAL, &["fs", "gs", "rip", "rflags", "cr2", "memory"]],
        needs: ELSEWHERE,
        what: "FSGSBASE instructions run without CR4.FSGSBASE",
    },
    Deviation {
        id: "split-write",
        forms: ANY,
        cpls: &[0],
        places: &[&["memory 0xbff8", "memory 0x10ff8"]],
        needs: ANY,
        what: "a write over the end of a page into one that faults leaves its first part",
    },
    Deviation {
        id: "syscall-cpl",
        forms: &["syscall", "sysret"],
        cpls: BOTH,
        places: &[&["cs", "ss", "cr2", "rip", "rsp", "rflags", "memory"]],
        needs: ANY,
        what: "SYSCALL stays at CPL 3, and SYSRET's flags differ",
    },
    Deviation {
        id: "cr0-upper-half",
        forms: &["mov to cr0"],
        cpls: &[0],
        places: &[GENERAL, &["rip", "rflags", "cr0", "memory"]],
        needs: ANY,
        what: "CR0 may be written with bits above 31 set",
    },
    Deviation {
        id: "dr6-rtm",
        forms: &["mov to dr6"],
        cpls: &[0],
        places: &[GENERAL],
        needs: ANY,
        what: "bit 16 of DR6 can be cleared, although CPUID shows no transactions (Intel)",
    },
    Deviation {
        id: "tsc-aux",
        forms: &["rdmsr", "wrmsr"],
        cpls: &[0],
        places: &[GENERAL, &["rip", "rflags", "memory", "msr 0xc0000103"]],
        needs: ANY,
        what: "TSC_AUX is an MSR for the VMM, not for the guest",
    },
    Deviation {
        id: "sysenter-canonical",
        forms: &["wrmsr"],
        cpls: &[0],
        places: &[GENERAL, &["rip", "rflags", "memory", "msr 0x175", "msr 0x176", "msr 0x277"]],
        needs: ANY,
        what: "SYSENTER_ESP and SYSENTER_EIP are made canonical, not checked (AMD)",
    },
];

/// The deviation that explains all of these differences.
pub fn explain(form: &str, cpl: u8, differences: &[String]) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|d| {
        d.cpls.contains(&cpl)
            && d.forms.iter().any(|f| form.starts_with(f))
            && differences.iter().all(|line| d.places.iter().copied().flatten().any(|p| line.starts_with(p)))
            && differences.iter().any(|line| d.needs.iter().any(|p| line.starts_with(p)))
    })
}
