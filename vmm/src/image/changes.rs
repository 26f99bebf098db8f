//! Changes of one instruction: the same image with an instruction removed, or another in its place.

use std::fmt;

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::declare::Scheme;
use super::error::Error;
use super::file::Image;

/// What is done to an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alteration {
    /// NOPs stand in its place.
    Removed,
    /// A conditional jump is taken where it was not, and the other way round.
    Inverted,
    /// It and the next one stand in the other order.
    Swapped,
    /// Its operands have 32 bits instead of 64.
    Narrowed,
    /// So much is added to the lowest byte of its displacement.
    Displaced(i8),
    /// So much is added to the lowest byte of its immediate operand.
    Valued(i8),
}

impl Alteration {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Removed,
        Self::Inverted,
        Self::Swapped,
        Self::Narrowed,
        Self::Displaced(1),
        Self::Displaced(8),
        Self::Displaced(-8),
        Self::Valued(1),
        Self::Valued(8),
        Self::Valued(-8),
    ];

    /// The one of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.to_string() == name)
    }
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("removed"),
            Self::Inverted => f.write_str("inverted"),
            Self::Swapped => f.write_str("swapped"),
            Self::Narrowed => f.write_str("narrowed"),
            Self::Displaced(by) => write!(f, "displacement{by:+}"),
            Self::Valued(by) => write!(f, "immediate{by:+}"),
        }
    }
}

/// A change of one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: a virtual address.
    pub at: u64,
    /// What is done there.
    pub what: Alteration,
    /// The instruction as it is.
    pub insn: Instruction,
    /// The bytes from there on.
    bytes: Vec<u8>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:#x}", self.what, self.at)
    }
}

/// An instruction with its encoding.
struct Encoded {
    insn: Instruction,
    offsets: ConstantOffsets,
    bytes: Vec<u8>,
}

/// Every change of the code whose symbols begin with the scheme's prefix.
pub fn changes(image: &Image, scheme: &Scheme) -> Vec<Change> {
    let own =
        |addr: u64| image.symbols.nearest_code(addr, "").is_some_and(|s| s.name.starts_with(scheme.prefix.as_str()));
    let list: Vec<Encoded> = image.segments.iter().filter(|s| s.exec).flat_map(|s| decode(image, s.vaddr)).collect();
    let mut out = Vec::new();
    for (i, encoded) in list.iter().enumerate().filter(|(_, e)| own(e.insn.ip())) {
        let next = list.get(i + 1).filter(|next| next.insn.ip() == encoded.insn.next_ip() && own(next.insn.ip()));
        out.extend(encoded.changes(next));
    }
    out
}

/// The change of this kind at an address; `None` where that instruction has none.
pub fn change(image: &Image, what: Alteration, at: u64) -> Option<Change> {
    let segment = image.segments.iter().find(|s| s.exec && at.wrapping_sub(s.vaddr) < s.file_size)?;
    let list = decode(image, segment.vaddr);
    let i = list.iter().position(|e| e.insn.ip() == at)?;
    list[i].changes(list.get(i + 1)).into_iter().find(|change| change.what == what)
}

/// The instructions from an address to its segment's end.
fn decode(image: &Image, from: u64) -> Vec<Encoded> {
    let Some(bytes) = image.code_at(from) else { return Vec::new() };
    let mut decoder = Decoder::with_ip(64, bytes, from, DecoderOptions::NONE);
    let mut list = Vec::new();
    while decoder.can_decode() {
        let insn = decoder.decode();
        if !insn.is_invalid() {
            let at = (insn.ip() - from) as usize;
            let offsets = decoder.get_constant_offsets(&insn);
            list.push(Encoded { insn, offsets, bytes: bytes[at..at + insn.len()].to_vec() });
        }
    }
    list
}

impl Encoded {
    fn changes(&self, next: Option<&Self>) -> Vec<Change> {
        let Self { insn, offsets, bytes } = self;
        let mut out = Vec::new();
        // What pads a function up to the next one does nothing, changed or not.
        if insn.mnemonic() == Mnemonic::Nop {
            return out;
        }
        let mut add = |what: Alteration, bytes: Vec<u8>| out.push(Change { at: insn.ip(), what, insn: *insn, bytes });
        add(Alteration::Removed, vec![0x90; bytes.len()]);
        let Some(opcode) = bytes.iter().position(|b| !matches!(b, 0x40..=0x4f | 0x66 | 0x67 | 0xf0..=0xf3)) else {
            return out;
        };
        if insn.flow_control() == FlowControl::ConditionalBranch {
            let mut inverted = bytes.clone();
            // 0f 8x is the long form, 7x the short one; e3 has no inverse.
            let at = opcode + usize::from(inverted[opcode] == 0x0f);
            if inverted[at] != 0xe3 {
                inverted[at] ^= 1;
                add(Alteration::Inverted, inverted);
            }
        }
        if let Some(next) = next.filter(|next| next.insn.ip() == insn.next_ip())
            && insn.flow_control() == FlowControl::Next
        {
            add(Alteration::Swapped, [&next.bytes[..], bytes].concat());
        }
        if opcode > 0 && (0x48..=0x4f).contains(&bytes[opcode - 1]) {
            let mut narrow = bytes.clone();
            narrow[opcode - 1] &= !8;
            add(Alteration::Narrowed, narrow);
        }
        let displacement = (offsets.displacement_offset(), offsets.displacement_size());
        let immediate = (offsets.immediate_offset(), offsets.immediate_size());
        for by in [1i8, 8, -8] {
            for ((at, size), what) in [(displacement, Alteration::Displaced(by)), (immediate, Alteration::Valued(by))] {
                if size > 0 && !insn.is_jcc_short_or_near() {
                    let mut moved = bytes.clone();
                    moved[at] = moved[at].wrapping_add_signed(by);
                    add(what, moved);
                }
            }
        }
        out
    }
}

impl Change {
    /// The image with this change.
    pub fn of(&self, image: &Image) -> Result<Image, Error> {
        let mut bytes = image.bytes().to_vec();
        let segment = image.segments.iter().find(|s| s.exec && self.at.wrapping_sub(s.vaddr) < s.file_size);
        let place = segment.and_then(|s| {
            let from = usize::try_from(s.offset + (self.at - s.vaddr)).ok()?;
            bytes.get_mut(from..from.checked_add(self.bytes.len())?)
        });
        // Unchanged, the image would be judged in the place of the changed one.
        let Some(place) = place else { return Err(Error::Elf(format!("no segment's code holds {:#x}", self.at))) };
        place.copy_from_slice(&self.bytes);
        Image::parse(&bytes)
    }
}
