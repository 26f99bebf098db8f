//! The hypervisor's file, and the symbols that belong to it.

use std::io::Read;

use crate::kernels::pc::{Error, KernelSymbols};

/// Most bytes that a packed hypervisor may unpack to; they have some 3 MiB.
const MOST: u64 = 64 << 20;
/// Where Xen is linked to, above its physical address (`XEN_VIRT_START`, since 4.0).
const XEN_MAP: u64 = 0xffff_82d0_4000_0000;

/// The ELF file of a hypervisor, which may be packed by gzip.
pub fn hypervisor(file: Vec<u8>) -> Result<Vec<u8>, Error> {
    if !file.starts_with(&[0x1f, 0x8b]) {
        return Ok(file);
    }
    let mut out = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(&*file).take(MOST + 1).read_to_end(&mut out);
    unpacked.map_err(|e| Error::Image(format!("it does not unpack: {e}")))?;
    match out.len() as u64 > MOST {
        true => Err(Error::Image(format!("it unpacks to more than {} MiB, which no Xen does", MOST >> 20))),
        false => Ok(out),
    }
}

/// The symbols of a hypervisor, from `xen-syms`. The two files must be of one build.
pub fn symbols(image: &[u8], syms: &[u8]) -> Result<KernelSymbols, Error> {
    let named = build_id(syms).ok_or_else(|| Error::Symbols("the file has no build id: it is not xen-syms".into()))?;
    match build_id(image) {
        None => return Err(Error::Symbols("the hypervisor has no build id, so that no symbols can be trusted".into())),
        Some(id) if id != named => {
            let hex = |id: [u8; 20]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let (id, named) = (hex(id), hex(named));
            return Err(Error::Symbols(format!(
                "they are of another build: the hypervisor's build id is {id}, theirs is {named}"
            )));
        }
        Some(_) => {}
    }
    let xen = KernelSymbols::of_table(syms).ok_or_else(|| Error::Symbols("xen-syms is stripped".into()))?;
    Ok(xen.placed(XEN_MAP, XEN_MAP, Vec::new()))
}

/// The build id in a note of the file (NT_GNU_BUILD_ID, 20 bytes).
fn build_id(file: &[u8]) -> Option<[u8; 20]> {
    const NOTE: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = file.windows(NOTE.len()).position(|bytes| bytes == NOTE)? + NOTE.len();
    file.get(at..at + 20)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_another_build_are_refused() {
        let with = |id: u8| [&b"\x7fELF----\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"[..], &[id; 20]].concat();
        let told = |image: &[u8], syms: &[u8]| symbols(image, syms).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(told(&with(1), &with(2)).contains(&"01".repeat(20)));
        assert!(told(&with(1), b"\x7fELF").contains("not xen-syms"));
        assert!(told(b"\x7fELF", &with(1)).contains("no build id"));
        assert!(told(&with(1), &with(1)).contains("stripped"));
    }
}
