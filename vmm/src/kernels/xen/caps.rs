//! Host kvm_pvm shows CPUID features that it was told to hide, and whose instructions its emulator of
//! CPL 0 lacks (symptom: [`Pc::shows_hidden_cpuid`]). Xen can be told of them in no other way than by
//! `cleared_caps`, which it fills from its command line before it looks at CPUID.

use std::time::Duration;

use crate::kernels::pc::{Error, Pc, Stop};

/// Bits of `cleared_caps`, by its 32-bit words (xen/include/public/arch-x86/cpufeatureset.h): SSE3 and
/// later in word 1, RDTSCP in word 2, all but LAHF in word 3, and all of those of leaf 7 and later.
const CLEARED: [(u64, u32); 9] =
    [(1, 0x7eda_320b), (2, 1 << 27), (3, !1), (4, !0), (5, !0), (6, !0), (8, !0), (9, !0), (10, !0)];

/// Runs to where Xen begins in C, and fills the words.
pub(super) fn clear(pc: &mut Pc) -> Result<(), Error> {
    let symbol = |name: &str| pc.symbols.get(name);
    let (Some(begin), Some(caps)) = (symbol("__start_xen"), symbol("cleared_caps")) else {
        return Err(Error::Symbols("there is no __start_xen or cleared_caps, which this host needs".into()));
    };
    match pc.run(&[begin], Duration::from_secs(60))? {
        Stop::At(_) => {}
        other => {
            let why = format!("{other:?} before __start_xen");
            return Err(Error::Boot { why, console: pc.console_tail(12) });
        }
    }
    for (word, bits) in CLEARED {
        let at = caps + 4 * word;
        let mut bytes = [0; 4];
        if !pc.read(at, &mut bytes) {
            return Err(Error::Unreadable { what: "cleared_caps", addr: at });
        }
        pc.write_kernel("cleared_caps", at, &(u32::from_le_bytes(bytes) | bits).to_le_bytes())?;
    }
    pc.note_words();
    Ok(())
}
