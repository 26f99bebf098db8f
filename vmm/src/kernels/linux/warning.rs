//! A `WARN_ONCE` of the kernel's that has warned before: a #UD that the kernel returns from without a
//! word.

use crate::kernels::pc::{Error, Pc};

/// `BUGFLAG_WARNING`, `BUGFLAG_ONCE` and `BUGFLAG_DONE` (include/linux/bug.h).
const ONCE: u16 = 1 << 0 | 1 << 1;
const DONE: u16 = 1 << 2;
/// Bytes of an entry of the table of bugs: an offset to the code, with CONFIG_DEBUG_BUGVERBOSE one
/// to the file's name and the line, and the flags, which are last.
const SIZES: [u64; 2] = [12, 8];
const UD2: [u8; 2] = [0x0f, 0x0b];

/// A `WARN_ONCE`.
struct Warning {
    /// Its ud2.
    code: u64,
    /// Where its flags are.
    flags_at: u64,
    flags: u16,
}

/// The first of the kernel's text; `None` where it has no table of them, or one of another kind.
fn first(pc: &Pc) -> Option<Warning> {
    let start = pc.symbols.get("__start___bug_table")?;
    let end = pc.symbols.get("__stop___bug_table")?;
    SIZES.iter().find_map(|size| {
        let entry = |at: u64| {
            let mut bytes = [0; 12];
            let bytes = &mut bytes[..*size as usize];
            pc.read(at, bytes).then_some(())?;
            let code = at.wrapping_add_signed(i32::from_le_bytes(*bytes.first_chunk()?).into());
            // Behind an offset of four bytes, or behind two and a line's number.
            let offset = if *size == 8 { 4 } else { 10 };
            let flags = u16::from_le_bytes(*bytes[offset..].first_chunk()?);
            let mut there = [0; 2];
            (pc.read(code, &mut there) && there == UD2).then_some(Warning { code, flags_at: at + offset as u64, flags })
        };
        let all: Vec<Option<Warning>> = (start..end).step_by(*size as usize).map(entry).collect();
        // Entries of another size have no ud2 where they seem to point to; nor have those of code that
        // is gone after the boot.
        let plausible = all.iter().flatten().count() * 2 > all.len();
        all.into_iter().flatten().find(|w| plausible && w.flags & ONCE == ONCE)
    })
}

/// Makes it one that has warned before.
pub fn silence(pc: &mut Pc) -> Result<(), Error> {
    match first(pc) {
        Some(w) => pc.write_kernel("the table of warnings", w.flags_at, &(w.flags | DONE).to_le_bytes()),
        None => Ok(()),
    }
}

/// Its ud2, and what follows that.
pub fn ud2(pc: &Pc) -> Result<(u64, u64), Error> {
    let found = first(pc).filter(|w| w.flags & DONE != 0);
    let why = "there is no WARN_ONCE that the lab could find in __bug_table, or the kernel came up without the lab";
    found.map(|w| (w.code, w.code + UD2.len() as u64)).ok_or_else(|| Error::Symbols(why.into()))
}
