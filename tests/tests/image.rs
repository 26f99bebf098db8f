//! The guest image: it holds no instruction that a KVM without hardware support
//! cannot run at CPL0, and what the VMM copies and hashes for each step is small.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, elf};
use vmm::image::file::BUILTIN;

/// What such a KVM's emulator knows: no vector or x87 unit, none of the later
/// extensions, no virtualization.
const SUPPORTED: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CPUID,
    CpuidFeature::MSR,
    CpuidFeature::TSC,
    CpuidFeature::CX8,
    CpuidFeature::CMOV,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::SYSCALL,
];

/// Instructions of the supported sets that it does not know all the same.
const UNSUPPORTED: &[Mnemonic] = &[
    Mnemonic::Int,
    Mnemonic::Int1,
    Mnemonic::Int3,
    Mnemonic::Into,
    Mnemonic::Lar,
    Mnemonic::Lsl,
    Mnemonic::Verr,
    Mnemonic::Verw,
    Mnemonic::Wait,
];

/// Why `instruction` must not stand in the image, if it must not.
fn objection(instruction: &Instruction) -> Option<String> {
    if instruction.is_invalid() {
        return Some("cannot be decoded".to_owned());
    }
    if UNSUPPORTED.contains(&instruction.mnemonic()) {
        return Some("is not emulated".to_owned());
    }
    if let Some(feature) = instruction.cpuid_features().iter().find(|f| !SUPPORTED.contains(f)) {
        return Some(format!("needs {feature:?}"));
    }
    let registers = (0..instruction.op_count()).filter(|i| instruction.op_kind(*i) == OpKind::Register);
    let vector = registers.map(|i| instruction.op_register(i)).find(|r| r.is_vector_register() || r.is_mm());
    vector.map(|register| format!("uses {register:?}"))
}

/// All objections to the code `bytes`, which runs at `address`.
fn objections(bytes: &[u8], address: u64) -> Vec<String> {
    let mut formatter = GasFormatter::new();
    let decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    decoder
        .into_iter()
        .filter_map(|instruction| {
            let why = objection(&instruction)?;
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            Some(format!("{:#x}: {text}: {why}", instruction.ip()))
        })
        .collect()
}

fn header() -> &'static FileHeader64<Endianness> {
    FileHeader64::<Endianness>::parse(BUILTIN).expect("the image is ELF64")
}

/// The address of a symbol.
fn symbol(name: &str) -> u64 {
    let e = Endianness::Little;
    let sections = header().sections(e, BUILTIN).unwrap();
    let symbols = sections.symbols(e, BUILTIN, elf::SHT_SYMTAB).unwrap();
    let named = |s: &&elf::Sym64<Endianness>| symbols.symbol_name(e, s).is_ok_and(|n| n == name.as_bytes());
    symbols.iter().find(named).unwrap_or_else(|| panic!("{name} is no symbol")).st_value(e)
}

/// Whether an objection is about user code of a 32-bit segment, which nothing emulates.
fn in_32_bit_code(objection: &str) -> bool {
    let at = u64::from_str_radix(&objection[2..objection.find(':').unwrap()], 16).unwrap();
    (symbol("user_code_16.start")..symbol("user_code_16.long")).contains(&at)
}

#[test]
fn no_executable_section_holds_an_unsupported_instruction() {
    let e = Endianness::Little;
    let sections = header().sections(e, BUILTIN).unwrap();
    let mut checked = 0;
    let mut found = Vec::new();
    for section in sections.iter().filter(|s| s.sh_flags(e).contains(elf::SHF_EXECINSTR)) {
        let bytes = section.data(e, BUILTIN).unwrap();
        checked += bytes.len();
        found.extend(objections(bytes, section.sh_addr(e)));
    }
    // One stands there on purpose: the body of `bp-fault`, which the VMM helps along.
    found.retain(|f| {
        !f.ends_with("int3: is not emulated") || !f.starts_with(&format!("{:#x}:", symbol("bp_fault.instruction")))
    });
    // What loads and stores a vector register is known to such a KVM; the FPU's code has it.
    let loads = found.iter().filter(|f| f.contains(": movdqu ")).count();
    assert!(loads > 0, "the scenario fpu is gone");
    found.retain(|f| !f.contains(": movdqu "));
    // Ring 3's 32-bit code has a far jump that 64-bit code cannot have.
    found.retain(|f| !in_32_bit_code(f));
    assert!(checked > 1024, "only {checked} bytes of code were found");
    assert!(found.is_empty(), "{} instructions:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_checker_objects_to_every_kind_of_unsupported_instruction() {
    let bad: &[(&str, &[u8])] = &[
        ("pxor", &[0x66, 0x0f, 0xef, 0xc0]),
        ("movups", &[0x0f, 0x10, 0x07]),
        ("movq mm", &[0x0f, 0x6f, 0x07]),
        ("emms", &[0x0f, 0x77]),
        ("vmovdqu", &[0xc5, 0xfe, 0x6f, 0x07]),
        ("vzeroupper", &[0xc5, 0xf8, 0x77]),
        ("fwait", &[0x9b]),
        ("fninit", &[0xdb, 0xe3]),
        ("popcnt", &[0xf3, 0x48, 0x0f, 0xb8, 0xc0]),
        ("crc32", &[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc0]),
        ("andn", &[0xc4, 0xe2, 0x78, 0xf2, 0xc1]),
        ("bextr", &[0xc4, 0xe2, 0x78, 0xf7, 0xc1]),
        ("mulx", &[0xc4, 0xe2, 0x7b, 0xf6, 0xc1]),
        ("rorx", &[0xc4, 0xe3, 0x7b, 0xf0, 0xc0, 0x01]),
        ("tzcnt", &[0xf3, 0x0f, 0xbc, 0xc0]),
        ("adcx", &[0x66, 0x0f, 0x38, 0xf6, 0xc0]),
        ("cmpxchg16b", &[0x48, 0x0f, 0xc7, 0x0f]),
        ("clac", &[0x0f, 0x01, 0xca]),
        ("stac", &[0x0f, 0x01, 0xcb]),
        ("xgetbv", &[0x0f, 0x01, 0xd0]),
        ("xsave", &[0x0f, 0xae, 0x27]),
        ("ldmxcsr", &[0x0f, 0xae, 0x17]),
        ("rdtscp", &[0x0f, 0x01, 0xf9]),
        ("invpcid", &[0x66, 0x0f, 0x38, 0x82, 0x07]),
        ("lar", &[0x0f, 0x02, 0xc0]),
        ("lsl", &[0x0f, 0x03, 0xc0]),
        ("verr", &[0x0f, 0x00, 0xe0]),
        ("verw", &[0x0f, 0x00, 0xe8]),
        ("clwb", &[0x66, 0x0f, 0xae, 0x37]),
        ("monitor", &[0x0f, 0x01, 0xc8]),
        ("mwait", &[0x0f, 0x01, 0xc9]),
        ("rdpkru", &[0x0f, 0x01, 0xee]),
        ("wrpkru", &[0x0f, 0x01, 0xef]),
        ("sysenter", &[0x0f, 0x34]),
        ("int3", &[0xcc]),
        ("int 0x80", &[0xcd, 0x80]),
        ("int1", &[0xf1]),
        ("movbe", &[0x0f, 0x38, 0xf0, 0x07]),
        ("xbegin", &[0xc7, 0xf8, 0x00, 0x00, 0x00, 0x00]),
        ("vmcall", &[0x0f, 0x01, 0xc1]),
        ("vmmcall", &[0x0f, 0x01, 0xd9]),
        ("no instruction", &[0x06]),
    ];
    for (name, bytes) in bad {
        assert_eq!(objections(bytes, 0).len(), 1, "{name}");
    }
}

#[test]
fn the_checker_accepts_what_kernels_need() {
    let good: &[(&str, &[u8])] = &[
        ("iretq", &[0x48, 0xcf]),
        ("rep movsq", &[0xf3, 0x48, 0xa5]),
        ("out", &[0xe7, 0xe0]),
        ("wrmsr", &[0x0f, 0x30]),
        ("swapgs", &[0x0f, 0x01, 0xf8]),
        ("sysretq", &[0x48, 0x0f, 0x07]),
        ("mov %cr2", &[0x0f, 0x20, 0xd0]),
        ("ud2", &[0x0f, 0x0b]),
        ("pause", &[0xf3, 0x90]),
        ("cmpxchg", &[0xf0, 0x48, 0x0f, 0xb1, 0x0f]),
        ("cmove", &[0x48, 0x0f, 0x44, 0xc1]),
        ("nopw", &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]),
    ];
    for (name, bytes) in good {
        assert_eq!(objections(bytes, 0), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_run_writes_few_pages() {
    let e = Endianness::Little;
    let headers = header().program_headers(e, BUILTIN).unwrap();
    let writable = headers.iter().filter(|h| h.p_type(e) == elf::PT_LOAD && h.p_flags(e).contains(elf::PF_W));
    let pages: u64 = writable.map(|h| h.p_memsz(e).div_ceil(4096)).sum();
    assert!((1..=10).contains(&pages), "{pages} writable pages");
}

#[test]
fn the_image_does_not_say_where_it_was_built() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_str().unwrap();
    let found = BUILTIN.windows(checkout.len()).any(|w| w == checkout.as_bytes());
    assert!(!found, "{checkout} stands in the image");
}
