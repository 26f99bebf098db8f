//! Small guest images, made byte by byte, so that each can be wrong in one way.
#![allow(missing_docs, reason = "the fields are those of an ELF file")]

/// Where the code lies.
pub const CODE: u64 = 0x10_0000;
/// Where what is written lies: an IDT with an NMI gate, then a stack.
pub const DATA: u64 = 0x10_1000;

/// Instructions to begin with.
pub const READY: &[u8] = &[0xe7, 0xe0];
pub const END: &[u8] = &[0xe7, 0xe3];
pub const UD2: &[u8] = &[0x0f, 0x0b];
pub const HANG: &[u8] = &[0xeb, 0xfe];
pub const HLT: &[u8] = &[0xf4];

/// A loadable part.
#[derive(Clone)]
pub struct Segment {
    pub vaddr: u64,
    pub paddr: u64,
    pub bytes: Vec<u8>,
    pub size: u64,
    pub flags: u32,
}

/// An image.
#[derive(Clone)]
pub struct Tiny {
    pub class: u8,
    pub data: u8,
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    pub manifest: Option<String>,
    pub segments: Vec<Segment>,
    pub symbols: Vec<(&'static str, u64)>,
}

/// Loads the stack and an IDT with a gate for the NMI, whose handler is `iretq`.
fn prologue() -> Vec<u8> {
    let mut code = vec![0x48, 0xc7, 0xc4]; // mov $stack_high, %rsp
    code.extend((DATA as u32 + 0x400).to_le_bytes());
    code.extend([0x0f, 0x01, 0x1c, 0x25]); // lidt pointer
    code.extend((CODE as u32 + 0x100).to_le_bytes());
    code
}

impl Tiny {
    /// A guest that sets up what it must, and then does what `code` says.
    pub fn new(code: &[&[u8]]) -> Self {
        let mut text = prologue();
        text.extend(code.concat());
        assert!(text.len() <= 0x100);
        text.resize(0x100, 0xf4);
        text.extend(0x1ffu16.to_le_bytes());
        text.extend(DATA.to_le_bytes());
        text.resize(0x110, 0);
        text.extend([0x48, 0xcf]); // iretq
        let (handler, mut data) = (CODE + 0x110, vec![0; 0x400]);
        let gate = handler & 0xffff | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
        data[32..40].copy_from_slice(&gate.to_le_bytes());
        let segment = |at: u64, bytes: Vec<u8>, flags| {
            let size = bytes.len() as u64;
            Segment { vaddr: at, paddr: at, bytes, size, flags }
        };
        let manifest = "abi 1\nram 2097152\nscheme s arg=start entry=handler\nscenario c arg=start\n\
                        stack main low=stack_low high=stack_high\n";
        Self {
            class: 2,
            data: 1,
            kind: 2,
            machine: 62,
            entry: CODE,
            manifest: Some(manifest.into()),
            segments: vec![segment(CODE, text, 5), segment(DATA, data, 6)],
            symbols: vec![
                ("start", CODE),
                ("handler", handler),
                ("stack_low", DATA + 0x200),
                ("stack_high", DATA + 0x400),
            ],
        }
    }

    /// One that begins with `code`, without a stack or an IDT.
    pub fn bare(code: &[&[u8]]) -> Self {
        let mut tiny = Self::new(&[]);
        tiny.segments[0].bytes[..code.concat().len()].copy_from_slice(&code.concat());
        tiny
    }

    /// The same with another manifest.
    pub fn manifest(mut self, from: &str, to: &str) -> Self {
        let text = self.manifest.take().unwrap();
        assert!(text.contains(from), "{text}");
        self.manifest = Some(text.replace(from, to));
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let headers = self.segments.len() as u64 + u64::from(self.manifest.is_some());
        let mut body = vec![0u8; 64 + 56 * headers as usize];
        let mut phdrs = Vec::new();
        let mut program_header = |kind: u32, flags: u32, offset: u64, vaddr: u64, paddr: u64, file: u64, size: u64| {
            phdrs.extend(kind.to_le_bytes());
            phdrs.extend(flags.to_le_bytes());
            for word in [offset, vaddr, paddr, file, size, 4] {
                phdrs.extend(word.to_le_bytes());
            }
        };
        for s in &self.segments {
            program_header(1, s.flags, body.len() as u64, s.vaddr, s.paddr, s.bytes.len() as u64, s.size);
            body.extend(&s.bytes);
        }
        if let Some(text) = &self.manifest {
            let mut text = text.clone().into_bytes();
            text.resize(text.len().next_multiple_of(4), b'\n');
            let offset = body.len() as u64;
            for word in [8, text.len() as u32, 1] {
                body.extend(word.to_le_bytes());
            }
            body.extend(b"NMI-LAB\0");
            body.extend(&text);
            program_header(4, 4, offset, 0, 0, 20 + text.len() as u64, 20 + text.len() as u64);
        }
        body.splice(64..64 + phdrs.len(), phdrs);

        let (mut names, mut table) = (vec![0u8], vec![0u8; 24]);
        for (name, value) in &self.symbols {
            table.extend((names.len() as u32).to_le_bytes());
            table.extend([0x10, 0, 1, 0]); // global, in section 1
            table.extend(value.to_le_bytes());
            table.extend(0u64.to_le_bytes());
            names.extend(name.bytes());
            names.push(0);
        }
        let symtab = body.len() as u64;
        body.extend(&table);
        let strtab = body.len() as u64;
        body.extend(&names);
        let sections = body.len() as u64;
        let mut section = |kind: u32, flags: u64, offset: u64, size: u64, link: u32, entry: u64| {
            body.extend(0u32.to_le_bytes());
            body.extend(kind.to_le_bytes());
            for word in [flags, 0, offset, size] {
                body.extend(word.to_le_bytes());
            }
            body.extend(link.to_le_bytes());
            body.extend(1u32.to_le_bytes());
            body.extend(1u64.to_le_bytes());
            body.extend(entry.to_le_bytes());
        };
        section(0, 0, 0, 0, 0, 0);
        section(1, 6, 64, 0, 0, 0); // code, for the symbols
        section(2, 0, symtab, table.len() as u64, 3, 24);
        section(3, 0, strtab, names.len() as u64, 0, 0);

        let mut header = vec![0x7f, b'E', b'L', b'F', self.class, self.data, 1, 0];
        header.extend([0; 8]);
        header.extend(self.kind.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(1u32.to_le_bytes());
        for word in [self.entry, 64, sections] {
            header.extend(word.to_le_bytes());
        }
        header.extend(0u32.to_le_bytes());
        for half in [64u16, 56, headers as u16, 64, 4, 3] {
            header.extend(half.to_le_bytes());
        }
        body[..64].copy_from_slice(&header);
        body
    }
}
