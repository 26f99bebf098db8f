//! The manifest: declarations to the VMM as ELF notes, each next to what it
//! declares. The grammar is at [`guest::abi::NOTE_NAME`].

use guest::abi;

/// One ELF note with a text of `N` bytes (a multiple of 4).
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    name_size: u32,
    text_size: u32,
    kind: u32,
    name: [u8; NAME_SIZE],
    text: [u8; N],
}

const NAME_SIZE: usize = abi::NOTE_NAME.len() + 1;
const _: () = assert!(NAME_SIZE.is_multiple_of(4), "the note's text must be aligned");

impl<const N: usize> Note<N> {
    /// The note that says `text`, padded with line ends.
    pub const fn new(text: &str) -> Self {
        let mut note = Self {
            name_size: NAME_SIZE as u32,
            text_size: N as u32,
            kind: abi::NOTE_TYPE_MANIFEST,
            name: [0; NAME_SIZE],
            text: [b'\n'; N],
        };
        let mut i = 0;
        while i < abi::NOTE_NAME.len() {
            note.name[i] = abi::NOTE_NAME.as_bytes()[i];
            i += 1;
        }
        let mut i = 0;
        while i < text.len() {
            note.text[i] = text.as_bytes()[i];
            i += 1;
        }
        note
    }
}

/// Puts a line (or several literals that make one) into the manifest.
macro_rules! lab_note {
    ($($text:literal)+) => {
        const _: () = {
            const TEXT: &str = concat!($($text),+);
            const SIZE: usize = TEXT.len().next_multiple_of(4);
            #[used]
            #[unsafe(link_section = ".note.nmi_lab")]
            static NOTE: $crate::note::Note<SIZE> = $crate::note::Note::new(TEXT);
        };
    };
}
