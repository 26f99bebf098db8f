//! Where hosts are known to do other than the model, which does as the SDM says. A difference
//! is excused only where each of its lines is one of these.

/// One known deviation.
pub struct Deviation {
    /// Forms, by the beginning of their names; empty for any.
    forms: &'static [&'static str],
    /// CPLs.
    cpls: &'static [u8],
    /// Places that may differ, by the beginning of the lines that tell of them.
    places: &'static [&'static str],
    /// What the host does.
    pub what: &'static str,
}

const ANY: &[&str] = &[""];
const BOTH: &[u8] = &[0, 3];
const DATA_SEGMENTS: &[&str] = &["ds", "es", "fs", "gs"];

/// Seen on kvm_pvm, whose CPL 0 is KVM's emulator and whose CPL 3 is the processor's.
const DEVIATIONS: &[Deviation] = &[
    Deviation {
        forms: ANY,
        cpls: BOTH,
        places: &["cr2", "memory 0x14fe8"],
        what: "a fault while a fault is delivered: CR2 stays the first's, and #DF's frame has RF set",
    },
    Deviation { forms: &["cmps", "repe cmps"], cpls: &[3], places: &["cr2"], what: "CMPS reads (RDI) before (RSI)" },
    Deviation {
        forms: &["cmpxchg"],
        cpls: BOTH,
        places: &["r"],
        what: "CMPXCHG of 32 bits that fails clears the upper half of its destination",
    },
    Deviation {
        forms: &["int1", "int3", "int n"],
        cpls: &[3],
        places: ANY,
        what: "INT n gives #UD, INT1 saves its own RIP, INT3 with an odd RSP gives #UD",
    },
    Deviation {
        forms: &["iretq", "lretq", "lretl"],
        cpls: &[0],
        places: DATA_SEGMENTS,
        what: "a return to CPL 3 keeps data segments of CPL 0",
    },
    Deviation {
        forms: &["iretq", "lretq", "lretl"],
        cpls: BOTH,
        places: ANY,
        what: "returns with a bad selector or RIP fault elsewhere, otherwise, or not at all",
    },
    Deviation { forms: &["ltr"], cpls: &[0], places: &["memory"], what: "LTR of a selector with TI set: error code 0" },
    Deviation {
        forms: &["mov from sreg", "sldt", "str"],
        cpls: BOTH,
        places: &["memory"],
        what: "a selector is stored in memory with the operand's size, not 16 bits",
    },
    Deviation {
        forms: &["mov from sreg", "mov to", "pop fs", "pop gs", "push fs", "push gs"],
        cpls: &[3],
        places: ANY,
        what: "segment registers of CPL 3 are the host's own",
    },
    Deviation { forms: &["popf"], cpls: &[3], places: &["rflags"], what: "an entry from CPL 3 clears AC" },
    Deviation {
        forms: &["rdfs", "rdgs", "wrfs", "wrgs"],
        cpls: BOTH,
        places: ANY,
        what: "FSGSBASE instructions run without CR4.FSGSBASE",
    },
    Deviation {
        forms: ANY,
        cpls: &[0],
        places: &["memory 0xbff8", "memory 0x10ff8"],
        what: "a write over the end of a page into one that faults leaves its first part",
    },
    Deviation {
        forms: &["syscall", "sysret"],
        cpls: BOTH,
        places: ANY,
        what: "SYSCALL stays at CPL 3, and SYSRET's flags differ",
    },
    Deviation {
        forms: &["wrmsr"],
        cpls: &[0],
        places: ANY,
        what: "SYSENTER_ESP and SYSENTER_EIP are made canonical, not checked (AMD)",
    },
];

/// The deviation that explains all of these differences.
pub fn explain(form: &str, cpl: u8, differences: &[String]) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|d| {
        d.cpls.contains(&cpl)
            && d.forms.iter().any(|f| form.starts_with(f))
            && differences.iter().all(|line| d.places.iter().any(|p| line.starts_with(p)))
    })
}
