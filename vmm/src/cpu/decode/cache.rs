//! Decoding, remembered. An entry is used only while memory holds the bytes it was made of.

use iced_x86::{Code as Form, Decoder, DecoderError, DecoderOptions};

use super::lift::lift;
use super::op::Decoded;

/// What bytes decode to.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Code {
    Instruction(Decoded),
    /// The instruction goes on after the bytes given.
    Longer,
    /// The SDM says that these bytes raise #UD.
    Invalid,
    /// The decoder does not know them.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    rip: u64,
    paddr: u64,
    bytes: u128,
    decoded: Decoded,
}

/// Entries by address; a power of two.
const ENTRIES: usize = 2048;

/// Instructions by their linear and physical address.
#[derive(Clone, Debug)]
pub(in super::super) struct Cache {
    entries: Box<[Option<Entry>]>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { entries: vec![None; ENTRIES].into_boxed_slice() }
    }
}

fn slot(rip: u64) -> usize {
    (rip ^ rip >> 11) as usize & (ENTRIES - 1)
}

impl Cache {
    /// What was decoded at this place, with the bytes that must still be there.
    #[inline]
    pub fn get(&self, rip: u64, paddr: u64) -> Option<(&Decoded, u128)> {
        let entry = self.entries.get(slot(rip))?.as_ref()?;
        (entry.rip == rip && entry.paddr == paddr).then_some((&entry.decoded, entry.bytes))
    }

    /// Remembers an instruction, of these bytes.
    pub fn put(&mut self, rip: u64, paddr: u64, bytes: u128, decoded: Decoded) {
        if let Some(entry) = self.entries.get_mut(slot(rip)) {
            *entry = Some(Entry { rip, paddr, bytes, decoded });
        }
    }
}

/// Decodes an instruction of 64-bit code.
pub(in super::super) fn decode(bytes: &[u8], rip: u64) -> Code {
    let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
    let insn = decoder.decode();
    if insn.code() != Form::INVALID {
        return Code::Instruction(lift(&insn));
    }
    if decoder.last_error() == DecoderError::NoMoreBytes {
        return if bytes.len() < 15 { Code::Longer } else { Code::Unknown };
    }
    let mut lenient = Decoder::with_ip(64, bytes, rip, DecoderOptions::NO_INVALID_CHECK);
    let lenient = lenient.decode();
    if is_invalid(bytes) || lenient.code() != Form::INVALID && lenient.has_lock_prefix() {
        return Code::Invalid;
    }
    Code::Unknown
}

/// Whether the opcode is one that SDM vol. 2, appendix A, calls invalid in 64-bit mode.
fn is_invalid(bytes: &[u8]) -> bool {
    const PREFIXES: [u8; 11] = [0x66, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0xf0, 0xf2, 0xf3];
    const OPCODES: [u8; 18] =
        [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5];
    let opcode = bytes.iter().find(|b| !PREFIXES.contains(b) && **b & 0xf0 != 0x40);
    opcode.is_some_and(|b| OPCODES.contains(b) || *b == 0xea)
}
