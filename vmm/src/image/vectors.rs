//! Exceptions by number and by name.

/// The mnemonics of SDM vol. 3, table 6-1, with their vectors.
pub const VECTORS: [(&str, u8); 16] = [
    ("de", 0),
    ("db", 1),
    ("nmi", 2),
    ("bp", 3),
    ("of", 4),
    ("br", 5),
    ("ud", 6),
    ("nm", 7),
    ("df", 8),
    ("ts", 10),
    ("np", 11),
    ("ss", 12),
    ("gp", 13),
    ("pf", 14),
    ("ac", 17),
    ("mc", MACHINE_CHECK),
];

/// #MC.
pub const MACHINE_CHECK: u8 = 18;

/// The vector called `name`.
pub fn vector_number(name: &str) -> Option<u8> {
    VECTORS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

/// `#GP` for 13, `vector 77` for one without a mnemonic.
pub fn vector_name(vector: u8) -> String {
    match VECTORS.iter().find(|(_, v)| *v == vector) {
        Some((name, _)) => format!("#{}", name.to_uppercase()),
        None => format!("vector {vector}"),
    }
}

/// Whether the CPU pushes an error code with this exception (SDM vol. 3, 6.13).
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// An exception at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Its vector.
    pub vector: u8,
    /// The RIP that it pushes: for a fault that of the instruction, for a #DB that of the next.
    pub rip: u64,
}
