//! From a kernel file to the ELF inside: a bzImage's payload is found by its setup
//! header and unpacked (Documentation/arch/x86/boot.rst).

use std::io::Read;

use object::Object;

use crate::kernels::pc::Error;

/// Offset of the magic `HdrS` in a bzImage.
const HDRS: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The ELF `vmlinux` in a kernel file, which is a bzImage or already the ELF.
pub fn vmlinux(file: Vec<u8>) -> Result<Vec<u8>, Error> {
    if file.starts_with(b"\x7fELF") {
        return x86_64(file);
    }
    if file.get(HDRS..HDRS + 4) != Some(b"HdrS") {
        return Err(Error::Image("neither an ELF file nor an x86 bzImage (no HdrS at 0x202)".into()));
    }
    let version = word(&file, 0x206)? & 0xffff;
    if version < 0x208 {
        return Err(Error::Image(format!("boot protocol {version:#x} is older than 2.08 and names no payload")));
    }
    let setup_sectors = match file[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * 512 + word(&file, PAYLOAD_OFFSET)?;
    let packed = file
        .get(start..start + word(&file, PAYLOAD_LENGTH)?)
        .ok_or_else(|| Error::Image("its setup header names a payload beyond the file's end".into()))?;
    let elf = unpack(packed, MOST)?;
    match elf.starts_with(b"\x7fELF") {
        true => x86_64(elf),
        false => Err(Error::Image("its payload is no ELF file".into())),
    }
}

/// The ELF file, if it is one of a kernel for this machine.
fn x86_64(elf: Vec<u8>) -> Result<Vec<u8>, Error> {
    let file = object::File::parse(&*elf).map_err(|e| Error::Image(format!("it is no usable ELF file: {e}")))?;
    let why = match file.kind() {
        _ if file.architecture() != object::Architecture::X86_64 => {
            format!("it is for {:?}, not for x86-64 in 64-bit mode", file.architecture())
        }
        object::ObjectKind::Executable => return Ok(elf),
        kind => format!("it is an ELF file of kind {kind:?}, not a kernel (Executable)"),
    };
    Err(Error::Image(why))
}

fn word(file: &[u8], at: usize) -> Result<usize, Error> {
    let bytes = file.get(at..at + 4).and_then(|b| b.try_into().ok());
    let word = bytes.map(u32::from_le_bytes).ok_or_else(|| Error::Image("the file is cut short".into()))?;
    Ok(word as usize)
}

/// Most bytes that a payload may unpack to: a kernel with all of its debugging information has less.
const MOST: usize = 1 << 30;
/// Most memory that an xz or lzma decoder may take; kernels are packed with 32 MiB at most.
const DECODER_KIB: u32 = 256 << 10;

/// Unpacks what is not larger than `most` bytes.
fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let bad = |how: &str, why: String| Error::Image(format!("its {how} payload does not unpack: {why}"));
    let all = |how: &'static str, from: &mut dyn Read| {
        let mut out = Vec::new();
        from.take(most as u64 + 1).read_to_end(&mut out).map_err(|e| bad(how, e.to_string()))?;
        match out.len() > most {
            true => Err(bad(how, too_large(most))),
            false => Ok(out),
        }
    };
    // What follows an xz or lzma stream is its unpacked size, which is no part of it.
    let stream = &packed[..packed.len().saturating_sub(4)];
    match packed {
        [0x7f, b'E', b'L', b'F', ..] => Ok(packed.to_vec()),
        [0x1f, 0x8b, ..] => all("gzip", &mut flate2::read::GzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
            all("zstd", &mut decoder.map_err(|e| bad("zstd", e.to_string()))?)
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            all("xz", &mut lzma_rust2::XzReader::new_mem_limit(stream, false, DECODER_KIB))
        }
        [0x5d, 0, 0, _, ..] => {
            let decoder = lzma_rust2::LzmaReader::new_mem_limit(stream, DECODER_KIB, None);
            all("lzma", &mut decoder.map_err(|e| bad("lzma", e.to_string()))?)
        }
        [0x02, 0x21, 0x4c, 0x18, rest @ ..] => lz4_legacy(rest, most).map_err(|e| bad("LZ4", e)),
        [a, b, c, d, ..] => {
            let magic = format!("{a:02x} {b:02x} {c:02x} {d:02x}");
            Err(Error::Image(format!("its payload is packed in a way not known here (it begins {magic})")))
        }
        _ => Err(Error::Image("its payload is empty".into())),
    }
}

fn too_large(most: usize) -> String {
    format!("it is larger than {} MiB, which no kernel is", most >> 20)
}

/// LZ4's legacy frame: blocks of at most 8 MiB, each behind its length. The kernel's
/// build appends four bytes, the unpacked size, which end it.
fn lz4_legacy(mut rest: &[u8], most: usize) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 8 << 20;
    let mut out = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*head) as usize;
        if tail.is_empty() {
            break;
        }
        let block = tail.get(..len).ok_or("a block is cut short")?;
        out.extend(lz4_flex::block::decompress(block, BLOCK).map_err(|e| e.to_string())?);
        if out.len() > most {
            return Err(too_large(most));
        }
        rest = &tail[len..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused_in_words() {
        let text = vmlinux(b"#!/bin/sh\n".to_vec()).unwrap_err().to_string();
        assert!(text.contains("neither an ELF file nor an x86 bzImage"), "{text}");
        let mut image = vec![0; 0x400];
        image[HDRS..HDRS + 4].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&0x1000u32.to_le_bytes());
        for cut in HDRS..image.len() {
            assert!(vmlinux(image[..cut].to_vec()).is_err(), "{cut}");
        }
        let text = vmlinux(image).unwrap_err().to_string();
        assert!(text.contains("beyond the file's end"), "{text}");
    }

    /// Two MiB of zeros, packed as kernels are, each in a few hundred bytes.
    const ZEROS: [(&str, &[u8]); 5] = [
        ("gzip", include_bytes!("../../../../fuzz/corpus/kernel/zeros.gz")),
        ("zstd", include_bytes!("../../../../fuzz/corpus/kernel/zeros.zst")),
        ("xz", include_bytes!("../../../../fuzz/corpus/kernel/zeros.xz")),
        ("lzma", include_bytes!("../../../../fuzz/corpus/kernel/zeros.lzma")),
        ("LZ4", include_bytes!("../../../../fuzz/corpus/kernel/zeros.lz4")),
    ];

    #[test]
    fn a_payload_unpacks_up_to_its_limit_and_no_further() {
        const BYTES: usize = 2 << 20;
        for (how, packed) in ZEROS {
            // The kernel's build puts the unpacked size behind all but gzip.
            let payload = [packed, &(BYTES as u32).to_le_bytes()[..]].concat();
            assert_eq!(unpack(&payload, BYTES).unwrap(), vec![0; BYTES], "{how}");
            let text = unpack(&payload, BYTES - 1).unwrap_err().to_string();
            assert!(text.contains(how) && text.contains("larger than"), "{text}");
            assert!(unpack(&payload[..payload.len() / 2], BYTES).is_err(), "{how}");
        }
    }

    #[test]
    fn lz4_in_its_legacy_frame_unpacks() {
        // One literal run of four bytes, as a block behind its length, then the size.
        let frame = [&[5, 0, 0, 0][..], &[0x40, b'a', b'b', b'c', b'd'], &[4, 0, 0, 0]].concat();
        assert_eq!(lz4_legacy(&frame, MOST).unwrap(), b"abcd");
    }
}
