//! A machine in a file: what a kernel's boot led to, to start from again.
//!
//! The file is a magic number, a header of JSON behind its length, the pages of RAM that are
//! not zero, packed by LZ4 a few at a time, and a checksum over all of it. A file that is
//! damaged in any way is an error.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::assists::{Assists, Native};
use super::devices::DeviceState;
use super::gs::GsBases;
use super::pit::Nanos;
use super::{Board, Error, Hooks, KernelSymbols, Pc, Program, Snapshot};
use crate::cpu::{Events, Regs, Sregs, msr};
use crate::kvm::{DeepState, DeepValues, Host, VcpuState};

/// The beginning of a file, whose last byte is the format's number.
const MAGIC: &[u8; 8] = b"NMI-PC\0\x03";
/// The format's number: files of another are not looked for in the cache.
pub const FORMAT: u8 = MAGIC[7];
const PAGE: usize = 4096;
/// Pages that are packed together.
const CHUNK: usize = 256;
/// Most bytes of RAM, as for a kernel that boots.
const MOST_RAM: u64 = 3072 << 20;
/// Most bytes of a header, unpacked: kernels have a few hundred thousand symbols.
const MOST_HEADER: usize = 512 << 20;

/// What a file says of the machine besides RAM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// What the machine was made of: the file is good for nothing else.
    pub key: String,
    /// The kernel's file, as it was named.
    pub file: String,
    /// Hash of the unpacked kernel.
    pub image: String,
    /// The command line that the kernel was given, without the lab's own words.
    pub cmdline: String,
    /// The host, in words.
    pub host: String,
    /// The host's fingerprint, without which nothing is resumed.
    pub fingerprint: String,
    #[serde(flatten)]
    board: Board,
    tsc_khz: Option<u32>,
    /// The kernel's symbols.
    pub symbols: KernelSymbols,
    program: Program,
    hooks: Hooks,
    root: Option<u64>,
    assists: Assists,
    lstar: Option<u64>,
    syscall: Native,
    user_out: Native,
    frozen: Option<Nanos>,
    regs: Regs,
    sregs: Sregs,
    events: Events,
    kernel_gs: u64,
    gs: Option<GsBases>,
    deep: DeepValues,
    devices: DeviceState,
    console: String,
}

/// What a file is about, to be written into it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// As [`Header::key`].
    pub key: String,
    /// As [`Header::file`].
    pub file: String,
    /// As [`Header::image`].
    pub image: String,
    /// As [`Header::cmdline`].
    pub cmdline: String,
}

/// A machine read from a file.
pub struct Saved {
    /// What the file says of it.
    pub header: Header,
    ram: Vec<u8>,
}

impl Pc {
    /// The machine as it was at `at`, in a file's bytes.
    pub fn save(&self, host: &Host, at: &Snapshot, about: About) -> Result<Vec<u8>, Error> {
        let vcpu = at.vcpu();
        let mut deep = at.deep.values();
        // The time is the one that is held, which a KVM need not let the vCPU's counter be set to.
        deep.msrs.extend(at.held.map(|held| (msr::TSC, held)));
        let header = Header {
            key: about.key,
            file: about.file,
            image: about.image,
            cmdline: about.cmdline,
            host: host.id().to_string(),
            fingerprint: host.id().fingerprint.clone(),
            board: self.board,
            tsc_khz: self.tsc_khz(),
            symbols: self.symbols.clone(),
            program: self.program,
            hooks: self.hooks.clone(),
            root: self.root,
            assists: self.assists,
            lstar: self.lstar,
            syscall: self.syscall,
            user_out: self.user_out,
            frozen: at.frozen,
            regs: vcpu.regs,
            sregs: vcpu.sregs,
            events: vcpu.events,
            kernel_gs: vcpu.kernel_gs,
            gs: self.gs,
            deep,
            devices: at.devices.clone(),
            console: self.console(0),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::Saved(e.to_string()))?;
        let header = lz4_flex::block::compress_prepend_size(&header);
        let mut out = MAGIC.to_vec();
        put(&mut out, &header);
        let full = |page: &usize| at.ram()[page * PAGE..(page + 1) * PAGE].iter().any(|byte| *byte != 0);
        let pages: Vec<usize> = (0..at.ram().len() / PAGE).filter(full).collect();
        for chunk in pages.chunks(CHUNK) {
            let mut raw = Vec::with_capacity(chunk.len() * (PAGE + 4));
            chunk.iter().for_each(|page| raw.extend((*page as u32).to_le_bytes()));
            chunk.iter().for_each(|page| raw.extend(&at.ram()[page * PAGE..(page + 1) * PAGE]));
            put(&mut out, &lz4_flex::block::compress_prepend_size(&raw));
        }
        let sum = xxh3_128(&out);
        out.extend(sum.to_le_bytes());
        Ok(out)
    }

    /// A machine as a file has it, on the same host.
    pub fn resume(host: &Host, saved: Saved) -> Result<Self, Error> {
        let Saved { header, ram } = saved;
        let mut pc = Self::new(host, header.board, header.symbols, header.program, None)?;
        if header.fingerprint != host.id().fingerprint {
            let why = format!("it is of another host, {}; this one is {}", header.host, host.id());
            return Err(Error::Saved(why));
        }
        if header.tsc_khz != pc.tsc_khz() {
            return Err(Error::Saved("the host's time-stamp counter runs at another frequency now".into()));
        }
        pc.vm.ram_mut().copy_from_slice(&ram);
        let state = VcpuState {
            regs: header.regs,
            sregs: header.sregs,
            events: header.events,
            kernel_gs: header.kernel_gs,
            ..*pc.state()
        };
        *pc.state_mut() = state;
        let deep = DeepState::of(&header.deep)?;
        pc.held = Some(deep.tsc());
        pc.vm.load_deep_state(&deep)?;
        pc.devices.resume(&header.devices, header.console.as_bytes());
        (pc.hooks, pc.root, pc.assists) = (header.hooks, header.root, header.assists);
        (pc.lstar, pc.syscall, pc.user_out) = (header.lstar, header.syscall, header.user_out);
        (pc.frozen, pc.gs) = (header.frozen, header.gs);
        Ok(pc)
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u64).to_le_bytes());
    out.extend(part);
}

/// Unpacks a part that says itself how large it is, which is `most` bytes at most.
fn unpack(part: &[u8], most: usize) -> Option<Vec<u8>> {
    let (size, packed) = lz4_flex::block::uncompressed_size(part).ok().filter(|(size, _)| *size <= most)?;
    lz4_flex::block::decompress(packed, size).ok()
}

/// Takes a part from the front, behind its length.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (part, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(part)
}

impl Saved {
    /// Reads a file's bytes, all of which are checked.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let (header, mut rest) = parts(bytes)?;
        let damaged = || Error::Saved("it is damaged: its pages do not unpack".into());
        let bytes =
            Some(header.board.ram_bytes).filter(|bytes| *bytes <= MOST_RAM).and_then(|b| usize::try_from(b).ok());
        let mut ram = vec![0; bytes.ok_or_else(damaged)?];
        while !rest.is_empty() {
            let raw = take(&mut rest).ok_or_else(damaged)?;
            let raw = unpack(raw, CHUNK * (PAGE + 4)).ok_or_else(damaged)?;
            let (pages, content) = raw.split_at(raw.len() / (PAGE + 4) * 4);
            for (page, content) in pages.as_chunks::<4>().0.iter().zip(content.chunks(PAGE)) {
                let at = u32::from_le_bytes(*page) as usize * PAGE;
                ram.get_mut(at..at + PAGE).ok_or_else(damaged)?.copy_from_slice(content);
            }
        }
        Ok(Self { header, ram })
    }

    /// Reads what a file says of its machine, without the machine.
    pub fn header(bytes: &[u8]) -> Result<Header, Error> {
        parts(bytes).map(|(header, _)| header)
    }
}

/// The header, and what follows it, of a file that is whole.
fn parts(bytes: &[u8]) -> Result<(Header, &[u8]), Error> {
    let bad = |why: &str| Error::Saved(why.to_owned());
    let rest = bytes.strip_prefix(&MAGIC[..7]).ok_or_else(|| bad("it is no saved machine of vmm's"))?;
    if rest.first() != MAGIC.last() {
        return Err(bad("another version of vmm wrote it"));
    }
    let (body, sum) = bytes.split_last_chunk::<16>().ok_or_else(|| bad("it is damaged: it is cut short"))?;
    if body.len() < MAGIC.len() || xxh3_128(body) != u128::from_le_bytes(*sum) {
        return Err(bad("it is damaged: its checksum is another"));
    }
    let mut rest = &body[MAGIC.len()..];
    let header = take(&mut rest).and_then(|h| unpack(h, MOST_HEADER));
    let header = header.ok_or_else(|| bad("it is damaged: its header does not unpack"))?;
    let header = serde_json::from_slice(&header).map_err(|e| bad(&format!("its header is not as expected: {e}")))?;
    Ok((header, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_saved_machine_or_damaged_is_refused() {
        let told = |bytes: &[u8]| Saved::read(bytes).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(told(b"").contains("no saved machine"));
        assert!(told(b"\x7fELF-something-else").contains("no saved machine"));
        assert!(told(b"NMI-PC\0\x01 and more").contains("another version"));
        assert!(told(b"NMI-PC\0\x03").contains("cut short"));
        let mut whole = MAGIC.to_vec();
        put(&mut whole, b"not packed");
        let sum = xxh3_128(&whole);
        whole.extend(sum.to_le_bytes());
        assert!(told(&whole).contains("does not unpack"));
        for at in 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(told(&damaged).contains("checksum"), "{at}");
        }
    }
}
