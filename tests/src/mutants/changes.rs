//! Changes of one instruction of a scheme.

use std::fmt;

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction};
use vmm::image::target::Target;
use vmm::image::{Guest, Image};

use super::{Error, Mutant};

/// A change of one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: a virtual address.
    pub at: u64,
    /// In words.
    pub what: String,
    /// The bytes from there on.
    bytes: Vec<u8>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.what, self.at)
    }
}

/// Every change of the code whose symbols begin with the scheme's prefix.
pub fn changes(image: &Image, scheme: &str) -> Result<Vec<Change>, Error> {
    // Any scenario will do to find the scheme.
    let scenario = image.declared.scenarios.first().map_or("", |s| s.name.as_str());
    let target = Target::find(&image.declared, scheme, scenario, None)?;
    let prefix = &target.scheme.prefix;
    let own = |addr: u64| image.symbols.nearest_code(addr, "").is_some_and(|s| s.name.starts_with(prefix.as_str()));
    let mut list: Vec<(Instruction, ConstantOffsets, Vec<u8>)> = Vec::new();
    for segment in image.segments.iter().filter(|s| s.exec) {
        let Some(bytes) = image.code_at(segment.vaddr) else { continue };
        let mut decoder = Decoder::with_ip(64, bytes, segment.vaddr, DecoderOptions::NONE);
        while decoder.can_decode() {
            let insn = decoder.decode();
            if own(insn.ip()) && !insn.is_invalid() {
                let from = (insn.ip() - segment.vaddr) as usize;
                list.push((insn, decoder.get_constant_offsets(&insn), bytes[from..from + insn.len()].to_vec()));
            }
        }
    }
    let mut out = Vec::new();
    for (i, (insn, offsets, bytes)) in list.iter().enumerate() {
        let mut add = |what: &str, bytes: Vec<u8>| out.push(Change { at: insn.ip(), what: what.to_owned(), bytes });
        add("removed", vec![0x90; bytes.len()]);
        let opcode = bytes.iter().position(|b| !matches!(b, 0x40..=0x4f | 0x66 | 0x67 | 0xf0..=0xf3)).unwrap_or(0);
        if insn.flow_control() == FlowControl::ConditionalBranch {
            let mut inverted = bytes.clone();
            // 0f 8x is the long form, 7x the short one; e3 has no inverse.
            let at = opcode + usize::from(inverted[opcode] == 0x0f);
            if inverted[at] != 0xe3 {
                inverted[at] ^= 1;
                add("condition inverted", inverted);
            }
        }
        if let Some((_, _, next)) = list.get(i + 1).filter(|(next, ..)| next.ip() == insn.next_ip())
            && insn.flow_control() == FlowControl::Next
        {
            add("swapped with the next", [&next[..], bytes].concat());
        }
        if (0x48..=0x4f).contains(&bytes[opcode.saturating_sub(1)]) && opcode > 0 {
            let mut narrow = bytes.clone();
            narrow[opcode - 1] &= !8;
            add("operands of 32 bits", narrow);
        }
        for (name, at, size) in [
            ("displacement", offsets.displacement_offset(), offsets.displacement_size()),
            ("immediate", offsets.immediate_offset(), offsets.immediate_size()),
        ] {
            if size == 0 || insn.is_jcc_short_or_near() {
                continue;
            }
            for by in [1u8, 8, 0xf8] {
                let mut moved = bytes.clone();
                moved[at] = moved[at].wrapping_add(by);
                add(&format!("{name} and {}", by as i8), moved);
            }
        }
    }
    Ok(out)
}

impl Change {
    /// The image with this change.
    pub fn of(&self, image: &Image, scheme: &str, scenario: &str) -> Result<Mutant, Error> {
        let mut bytes = image.bytes().to_vec();
        let segment = image.segments.iter().find(|s| s.exec && self.at.wrapping_sub(s.vaddr) < s.file_size);
        if let Some(s) = segment {
            let from = (s.offset + (self.at - s.vaddr)) as usize;
            bytes[from..from + self.bytes.len()].copy_from_slice(&self.bytes);
        }
        let guest = Guest::new(Image::parse(&bytes)?);
        let target = Target::find(&guest.image.declared, scheme, scenario, None)?;
        let name = format!("{scheme} / {scenario}: {self}");
        Ok(Mutant { name, guest, scheme: target.scheme, scenario: target.scenario, text: String::new() })
    }
}
