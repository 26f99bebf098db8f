//! A random instruction of a form.

use super::forms::{Form, Sizes};
use super::layout::DATA;
use super::random::Random;

/// The bytes of an instruction of this form. Memory operands are near RBX, but for some that
/// are relative to RIP, RSP or nothing; `at` is where it will lie.
pub(super) fn encode(form: &Form, random: &mut Random, at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut narrow, mut rex) = (false, 0u8);
    match form.sizes {
        Sizes::Byte => rex = if random.once_in(2) { 0x40 } else { 0 },
        Sizes::Wide => match random.below(3) {
            0 => narrow = true,
            1 => rex = 0x48,
            _ => {}
        },
        Sizes::Narrow | Sizes::Stack => narrow = random.once_in(3),
        Sizes::Far48 => rex = if random.once_in(2) { 0x48 } else { 0 },
        Sizes::Fixed => {}
    }
    if narrow {
        out.push(0x66);
    }
    let has_modrm = form.tail.starts_with('/');
    let registers = form.sizes != Sizes::Fixed && !form.tail.starts_with("/s");
    if registers && random.once_in(2) && (has_modrm || form.tail.starts_with('+')) {
        // R and B at random; X would move the index away from RCX.
        rex |= 0x40 | random.below(8) as u8 & 5;
    }
    let mut opcode = form.opcode.to_vec();
    if rex != 0 {
        out.push(rex);
    }
    let mut tail = form.tail;
    if let Some(rest) = tail.strip_prefix('+') {
        tail = rest;
        if let Some(last) = opcode.last_mut() {
            *last |= random.below(8) as u8;
        }
    }
    out.extend_from_slice(&opcode);
    let mut relative = None;
    if let Some(rest) = tail.strip_prefix('/') {
        let (memory, rest) = rest.strip_prefix('m').map_or((false, rest), |r| (true, r));
        let digit = rest.as_bytes().first().copied().unwrap_or(b'r');
        let reg = match digit {
            b'0'..=b'7' => digit - b'0',
            b's' => random.below(6) as u8,
            _ => random.below(8) as u8,
        };
        tail = rest.get(1..).unwrap_or("");
        let memory = memory || random.once_in(2);
        relative = modrm(&mut out, random, reg, memory, rex & 1 != 0);
    }
    for c in tail.chars() {
        let (size, value) = match c {
            'b' => (1, random.value()),
            'z' if narrow => (2, random.value()),
            'z' => (4, random.value()),
            'q' => (8, random.value()),
            'a' => (8, DATA + random.below(0x1ff0)),
            'j' => (1, random.below(0x60)),
            _ => continue,
        };
        out.extend_from_slice(value.to_le_bytes().get(..size).unwrap_or_default());
    }
    if let Some(place) = relative {
        let target = DATA + random.below(0x1ff0);
        let disp = (target.wrapping_sub(at + out.len() as u64) as u32).to_le_bytes();
        if let Some(slot) = out.get_mut(place..place + 4) {
            slot.copy_from_slice(&disp);
        }
    }
    out
}

/// A ModRM byte and what it brings. Returns where a displacement relative to RIP goes.
fn modrm(out: &mut Vec<u8>, random: &mut Random, reg: u8, memory: bool, extended: bool) -> Option<usize> {
    let reg = reg << 3;
    if !memory {
        out.push(0xc0 | reg | random.below(8) as u8);
        return None;
    }
    let disp8 = random.below(64) as u8;
    match random.below(7) {
        // With REX.B the base is R11, which is set as RBX is.
        0 => out.push(reg | 3),
        1 | 2 => out.extend([0x40 | reg | 3, disp8]),
        3 => out.extend([&[0x80 | reg | 3][..], &u32::from(disp8).to_le_bytes()].concat()),
        4 => out.extend([0x40 | reg | 4, (random.below(4) as u8) << 6 | 1 << 3 | 3, disp8]),
        5 => {
            out.extend([reg | 5, 0, 0, 0, 0]);
            return Some(out.len() - 4);
        }
        // RSP, or R12 with REX.B: most often a fault.
        _ if extended => out.push(reg | 3),
        _ => out.extend([0x40 | reg | 4, 0x24, disp8]),
    }
    None
}
