//! Files that somebody else made: whatever is in them, reading them never panics.

mod common;

use common::gcc;
use proptest::prelude::*;
use tests::elf::{END, READY, Tiny};
use vmm::image::file::BUILTIN;
use vmm::image::{Guest, Image, link, manifest};
use vmm::kvm::{Host, Vm};
use vmm::machine::boot;

/// Reads an image and all that is derived from it without a VM.
fn read(bytes: &[u8]) {
    if let Ok(image) = Image::parse(bytes) {
        let guest = Guest::new(image);
        let _ = (guest.has_source(), guest.source(guest.image.entry));
    }
}

/// Loads it into a VM, too, without running it.
fn load(bytes: &[u8], host: &Host) {
    let Ok(image) = Image::parse(bytes) else { return };
    let mut vm = Vm::new(host, image.declared.ram).unwrap();
    let _ = boot::prepare(&mut vm, &image, 0, 0);
}

/// Some bytes of a file changed: where, and to what.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff)]), 1..8)
}

fn changed(bytes: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, to) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *to;
    }
    bytes
}

/// The bytes that say what is where: headers, sections, symbols, notes.
fn tables(file: &[u8]) -> Vec<usize> {
    let sections = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    (0..0x200).chain(sections..file.len()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_changed_kernel(changes in changes()) {
        read(&changed(BUILTIN, &changes));
    }

    #[test]
    fn a_kernel_with_changed_tables(changes in changes()) {
        let (mut bytes, tables) = (BUILTIN.to_vec(), tables(BUILTIN));
        for (at, to) in &changes {
            bytes[tables[at.index(tables.len())]] = *to;
        }
        read(&bytes);
    }

    #[test]
    fn a_truncated_kernel(at in any::<prop::sample::Index>()) {
        read(&BUILTIN[..at.index(BUILTIN.len())]);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read(&[b"\x7fELF\x02\x01\x01".as_slice(), &bytes].concat());
        read(&bytes);
    }

    #[test]
    fn any_manifest(text in "\\PC{0,200}|(abi 1|scheme|scenario|[a-z]{1,9}|=|\"|#|,|:|\\+|@|0x[0-9a-f]{1,16}| |\n){0,40}") {
        let _ = manifest::parse(&text);
        let mut tiny = Tiny::new(&[READY, END]);
        tiny.manifest = Some(format!("{}{text}\n", tiny.manifest.unwrap()));
        read(&tiny.bytes());
    }

    /// Values of a declaration, near those that are good.
    #[test]
    fn any_declaration(key in "low|high|arg|entry|repeat|faults|idle", value in "(start|handler|stack_low|gp@start|nope)(\\+0x[0-9a-f]{1,16}|\\+[0-9]{1,20})?(:[0-9]{1,20})?(,start)?", keyword in "scheme|stack|scratch|slot|scenario") {
        let mut tiny = Tiny::new(&[READY, END]);
        let line = format!("{keyword} n {key}={value} {}\n", if key == "low" { "high=stack_high" } else { "low=stack_low" });
        tiny.manifest = Some(format!("{}{line}", tiny.manifest.unwrap()));
        read(&tiny.bytes());
    }
}

#[test]
fn a_changed_file_is_loaded_or_refused() {
    let host = Host::open().expect("KVM");
    let tiny = Tiny::new(&[READY, END]).bytes();
    // Its headers and notes, exhaustively enough: every byte to four values.
    let headers: Vec<usize> = (0..64 + 3 * 56).chain(tiny.len() - 0x300..tiny.len()).collect();
    for at in headers {
        for to in [0, 1, 0x80, 0xff] {
            let mut bytes = tiny.clone();
            bytes[at] = to;
            load(&bytes, &host);
        }
    }
}

#[test]
fn a_changed_object_is_linked_or_refused() {
    if !gcc::is_there() {
        return;
    }
    let text = "#include \"nmi_lab.h\"\nNMI_LAB_NOTE(\"scheme x prefix=x.\")\n.globl nmi_entry\nnmi_entry: call nmi_body\n\
                x.a: movl $1, mine\nmovq $mine, %rax\niretq\n.section .rodata\n.quad nmi_entry\n.bss\nmine: .skip 8\n";
    let object = gcc::object("e.S", text, &["-g"]);
    let kernel = Image::builtin().unwrap();
    link::link(&kernel, &object).expect("the object is good");
    for at in 0..object.len() {
        let mut bytes = object.clone();
        for to in [bytes[at] ^ 1, 0, 0xff] {
            bytes[at] = to;
            let _ = link::link(&kernel, &bytes);
        }
    }
    for end in 0..object.len() {
        let _ = link::link(&kernel, &object[..end]);
    }
}
