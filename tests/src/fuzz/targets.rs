//! The targets.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use vmm::campaign::{Campaign, merge};
use vmm::cpu::Model;
use vmm::cpu::conform::{Random, Scene, forms, run_model};
use vmm::folder::Shard;
use vmm::image::file::BUILTIN;
use vmm::image::{Guest, Image, Names, link, manifest};
use vmm::inject::{Replay, Schedule};
use vmm::kernels::linux::{symbols_of_image, vmlinux};
use vmm::kernels::pc::{KernelSymbols, Saved};
use vmm::oracle::Expectation;
use vmm::probe;
use vmm::report::{Results, agree};

use super::Target;
use super::contract::{contract, contracts};
use crate::elf::{END, READY, Tiny};

const fn target(name: &'static str, weight: u64, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds, weight }
}

/// All of them. Weights follow from how long one input takes.
pub const TARGETS: &[Target] = &[
    target("image", 40, image, images),
    target("builtin", 1, image, || vec![BUILTIN.to_vec()]),
    target("manifest", 120, manifest, || texts(&[MANIFEST])),
    target("object", 20, object, Vec::new),
    target("schedule", 160, schedule, || texts(&["nmi@first#1 nmi@exit_iret#1", "unmask@body+0x4#2 nmi@0x10000#1"])),
    target("replay", 160, replay, || {
        texts(&["s/c/native@0123456789abcdef nmi@first#1", "s/c/pv/keeps@0123456789abcdef"])
    }),
    target("words", 160, words, || texts(&["violation(I5)", "pass", "3/40", "host-limit"])),
    target("campaign", 60, campaign, || texts(&[CAMPAIGN])),
    target("linux-campaign", 60, linux_campaign, || texts(&[LINUX])),
    target("kernel", 60, kernel, kernels),
    target("symbols", 60, symbols, || texts(&["ffffffff81000000 T _text\nffffffff81000010 t asm_exc_nmi\n"])),
    target("saved", 40, saved, || vec![b"NMI-PC\0\x03\x08\0\0\0\0\0\0\0\x02\0\0\0\x20{}".to_vec()]),
    target("results", 10, results, || texts(&[UNIT, HEADER])),
    target("agree", 60, agreement, || texts(&[AGREE])),
    target("probe", 60, report, || texts(&[PROBE])),
    target("model", 40, model, || vec![vec![0x48, 0x89, 0xd8, 0xf4], vec![0x48, 0xcf], vec![0xf3, 0xa4, 0xf4]]),
    target("contract", 2, contract, contracts),
];

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}

const MANIFEST: &str = "abi 1\nram 2097152\nscheme s arg=start entry=handler summary=\"x\"\nscenario c arg=start\n\
                        stack main low=stack_low high=stack_high\n";
const CAMPAIGN: &str = "name = \"x\"\nschemes = [\"naive\", \"xen-*\"]\nscenarios = [\"quiet\"]\ngenerate = \"pairs\"\n\
                        [window]\nfirst_every = 60\n[expect.naive]\nquiet = \"violation(I5)\"\n";
const LINUX: &str = "name = \"x\"\nkernel = \"$CACHE/vmlinux\"\nram = 256\n[[run]]\nabout = \"a\"\nsites = [\"user\"]\n\
                     parts = [\"second\"]\nmutate = [\"x+0x1=90\"]\n";
const UNIT: &str = "{\"sum\":\"0123456789abcdef\",\"unit\":7,\"cases\":3,\"counts\":{\"pass\":3},\"rechecked\":1}\n";
const HEADER: &str = "{\"format\":4,\"program\":\"x\",\"cells\":[],\"checksum\": \"0123456789abcdef\"}\n";
const AGREE: &str = "{\"host\":{\"fingerprint\":\"1\",\"kernel\":\"6\",\"kvm\":\"k\",\"cpu\":\"c\"},\"image\":\"0\",\
                     \"campaign\":null,\"complete\":true,\"rows\":[{\"scheme\":\"s\",\"scenario\":\"c\",\"mode\":\"pv\",\
                     \"verdict\":\"pass\",\"invariant\":null,\"counts\":{\"pass\":3},\"failures\":[]}]}";
const PROBE: &str = "{\"schema\":1,\"host\":{\"fingerprint\":\"1\",\"kernel\":\"6\",\"kvm\":\"k\",\"cpu\":\"c\"},\"rows\":[\
                     {\"id\":\"a\",\"property\":\"p\",\"right\":[\"x\"],\"source\":\"s\",\"answer\":\"x\",\"status\":\"ok\",\
                     \"lab\":\"l\"}]}";

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn images() -> Vec<Vec<u8>> {
    vec![Tiny::new(&[READY, END]).bytes()]
}

/// An ELF image, its manifest, and all that is derived from it without a VM.
fn image(bytes: &[u8]) {
    if let Ok(image) = Image::parse(bytes) {
        let guest = Guest::new(image);
        let _ = (guest.has_source(), guest.source(guest.image.entry));
    }
}

fn manifest(bytes: &[u8]) {
    let text = text(bytes);
    let _ = manifest::parse(&text);
    let mut tiny = Tiny::new(&[READY, END]);
    tiny.manifest = Some(text.into_owned());
    let _ = Image::parse(&tiny.bytes());
}

/// An object that is linked into the kernel.
fn object(bytes: &[u8]) {
    static KERNEL: OnceLock<Image> = OnceLock::new();
    let kernel = KERNEL.get_or_init(|| Image::builtin().expect("the built-in kernel is good"));
    let _ = link::link(kernel, bytes);
}

fn guest() -> &'static Guest {
    static GUEST: OnceLock<Arc<Guest>> = OnceLock::new();
    GUEST.get_or_init(|| Guest::new(Image::builtin().expect("the built-in kernel is good")))
}

fn schedule(bytes: &[u8]) {
    let names = Names::new(guest(), "naive.");
    if let Ok(schedule) = Schedule::parse(&text(bytes), names) {
        let words = schedule.show(names);
        assert_eq!(Schedule::parse(&words, names).as_ref(), Ok(&schedule), "{words}");
    }
}

fn replay(bytes: &[u8]) {
    if let Ok(line) = Replay::parse(&text(bytes)) {
        assert_eq!(Replay::parse(&line.to_string()).as_ref(), Ok(&line));
    }
}

fn words(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(expectation) = text.parse::<Expectation>() {
        assert_eq!(expectation.to_string().parse::<Expectation>().as_ref(), Ok(&expectation));
    }
    if let Ok(shard) = text.parse::<Shard>() {
        assert_eq!(shard.to_string().parse::<Shard>(), Ok(shard));
    }
}

fn campaign(bytes: &[u8]) {
    let _ = Campaign::parse("campaign.toml", &text(bytes));
}

fn linux_campaign(bytes: &[u8]) {
    let _ = vmm::kernels::Campaign::parse(&text(bytes));
}

/// Bytes that are packed as a kernel's payload in each way.
fn kernels() -> Vec<Vec<u8>> {
    let elf = Tiny::new(&[READY, END]).bytes();
    let stored = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1][..], &[4, 0, 0xfb, 0xff], b"\x7fELF"].concat();
    let lz4 = [&[0x02, 0x21, 0x4c, 0x18, 5, 0, 0, 0][..], &[0x40, 0x7f, b'E', b'L', b'F'], &[4, 0, 0, 0]].concat();
    vec![elf, bz_image(&stored), bz_image(&lz4)]
}

/// A bzImage with this payload.
fn bz_image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend(payload);
    image
}

/// A kernel: what it is packed in, and the symbols that it has.
fn kernel(bytes: &[u8]) {
    let elf = vmlinux(bytes.to_vec()).or_else(|_| vmlinux(bz_image(bytes)));
    if let Ok(elf) = elf {
        let _ = symbols_of_image(&elf);
    }
    let _ = symbols_of_image(bytes);
}

fn symbols(bytes: &[u8]) {
    let _ = KernelSymbols::of_file(bytes);
}

/// A saved machine, whose checksum is put right: else nothing behind it would be read.
fn saved(bytes: &[u8]) {
    let _ = Saved::read(bytes);
    let whole = [bytes, &xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes()].concat();
    let _ = (Saved::read(&whole), Saved::header(&whole));
}

/// A result folder: the first line is its header, the others its units.
fn results(bytes: &[u8]) {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR
        .get_or_init(|| tempfile::tempdir().expect("a folder"))
        .path()
        .join(format!("{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let (header, units) = bytes.split_at(bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1));
    std::fs::write(dir.join("campaign.json"), header).expect("a file");
    std::fs::write(dir.join("units.jsonl"), units).expect("a file");
    let _ = merge(&[PathBuf::from(&dir)]);
    let _ = vmm::kernels::Results::merge(&[PathBuf::from(&dir)]);
}

fn agreement(bytes: &[u8]) {
    static OTHER: OnceLock<Results> = OnceLock::new();
    let other = OTHER.get_or_init(|| serde_json::from_str(AGREE).expect("the seed is good"));
    if let Ok(results) = serde_json::from_slice::<Results>(bytes) {
        let _ = agree(&[other.clone(), results]);
    }
}

/// A report of a host.
fn report(bytes: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<probe::Report>(bytes) {
        let facts = probe::Facts::of(&report);
        let reports = [report];
        let _ = (facts, probe::Comparison::of(&reports).hosts());
    }
}

/// Code, in a machine that the first bytes choose, as the model of the CPU runs it.
fn model(bytes: &[u8]) {
    let mut seed = [0; 8];
    bytes.iter().rev().zip(&mut seed).for_each(|(from, to)| *to = *from);
    let seed = u64::from_le_bytes(seed);
    let Some(form) = forms().next() else { return };
    let mut scene = Scene::new(&form, if seed & 1 == 0 { 0 } else { 3 }, &mut Random::new(seed));
    let code = &bytes[..bytes.len().min(64)];
    let at = scene.cpu.regs.rip as usize;
    if let Some(room) = scene.ram.get_mut(at..at + code.len()) {
        room.copy_from_slice(code);
        scene.code = code.to_vec();
        let _ = run_model(&mut Model::default(), &scene);
    }
}
