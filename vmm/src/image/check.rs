//! What an image must hold to so that nothing after it can go astray: segments
//! that fit memory and each other, and declared addresses that are what they are
//! said to be.

use std::ops::Range;

use guest::abi;

use super::elf::Segment;
use super::error::Error;
use super::file::Image;
use super::vectors::Trap;

/// Checks what needs segments and manifest together.
pub(super) fn image(image: &Image) -> Result<(), Error> {
    for (index, s) in image.segments.iter().enumerate() {
        let fail = |what: String| Error::Segment { index, paddr: s.paddr, end: s.paddr + s.size, what };
        segment(s, image.declared.ram).map_err(fail)?;
        for other in &image.segments[index + 1..] {
            pair(s, other).map_err(|what| {
                fail(format!("{what} the one at physical {:#x}..{:#x}", other.paddr, other.paddr + other.size))
            })?;
        }
    }
    if !image.is_code(image.entry) {
        return Err(Error::Elf(format!("the entry point {:#x} is not in an executable segment", image.entry)));
    }
    code_places(image)?;
    memory_places(image)
}

fn segment(s: &Segment, ram: u64) -> Result<(), String> {
    let (end, vend) = (s.paddr + s.size, s.vaddr + s.size);
    if s.paddr < abi::IMAGE_MIN_PADDR {
        return Err(format!("begins below {:#x}, where the boot tables are", abi::IMAGE_MIN_PADDR));
    }
    if end > ram {
        return Err(format!("ends beyond the RAM of {ram} bytes (see the manifest's `ram`)"));
    }
    if s.vaddr % 4096 != s.paddr % 4096 {
        return Err(format!("has virtual address {:#x}: they differ within a page", s.vaddr));
    }
    let canonical = |a: u64| matches!(a >> 47, 0 | 0x1_ffff);
    if !canonical(s.vaddr) || !canonical(vend - 1) {
        return Err(format!("has virtual address {:#x}, which is not canonical", s.vaddr));
    }
    if s.vaddr != s.paddr && s.vaddr & !4095 < ram {
        return Err(format!(
            "has virtual address {:#x}, where RAM is mapped one to one (virtual = physical is allowed)",
            s.vaddr
        ));
    }
    Ok(())
}

/// Two segments share neither a byte nor a virtual page that they map differently.
fn pair(a: &Segment, b: &Segment) -> Result<(), &'static str> {
    let overlap = |a: Range<u64>, b: Range<u64>| a.start < b.end && b.start < a.end;
    if overlap(a.paddr..a.paddr + a.size, b.paddr..b.paddr + b.size) {
        return Err("overlaps");
    }
    // Canonical addresses, so rounding up cannot wrap but to the very end.
    let pages = |s: &Segment| s.vaddr >> 12..((s.vaddr + s.size - 1) >> 12) + 1;
    if overlap(pages(a), pages(b)) && a.vaddr.wrapping_sub(a.paddr) != b.vaddr.wrapping_sub(b.paddr) {
        return Err("has virtual pages in common with");
    }
    Ok(())
}

/// What is declared as code is code.
fn code_places(image: &Image) -> Result<(), Error> {
    let check = |what: String, addr: u64| match image.is_code(addr) {
        true => Ok(()),
        false => Err(Error::Place { what, addr, why: "is not in an executable segment" }),
    };
    for s in &image.declared.schemes {
        if let Some(entry) = s.entry {
            check(format!("scheme {}: entry=", s.name), entry)?;
        }
        for resumes in &s.resumes {
            check(format!("scheme {}: a place in resumes=", s.name), resumes.from.start)?;
            check(format!("scheme {}: a place in resumes=", s.name), resumes.to)?;
        }
        for addr in &s.repeat {
            check(format!("scheme {}: a place in repeat=", s.name), *addr)?;
        }
        for Trap { rip: addr, .. } in &s.faults {
            check(format!("scheme {}: a place in faults=", s.name), *addr)?;
        }
    }
    for range in &image.declared.code32 {
        check("code32: low=".to_owned(), range.start)?;
    }
    if let Some(addr) = image.declared.hypercalls {
        let what = || "hypercalls: page=".to_owned();
        check(what(), addr)?;
        check(what(), addr.saturating_add(4095))?;
        if image.paddr(addr).is_none_or(|p| p % 4096 != 0) {
            return Err(Error::Place { what: what(), addr, why: "is not the first byte of a page" });
        }
    }
    Ok(())
}

/// Stacks and scratch memory are what a run may write.
fn memory_places(image: &Image) -> Result<(), Error> {
    let declared = &image.declared;
    let stacks = declared.stacks.iter().map(|s| (format!("stack {}", s.name), &s.range));
    let scratch = declared.scratch.iter().map(|s| ("scratch: low=".to_owned(), &s.range));
    for (what, range) in stacks.chain(scratch) {
        let inside = |s: &Segment| s.write && range.start >= s.vaddr && range.end <= s.vaddr + s.size;
        if !image.segments.iter().any(inside) {
            return Err(Error::Place {
                what,
                addr: range.start,
                why: "does not lie, up to its end, in one writable segment",
            });
        }
    }
    for scratch in declared.scratch.iter().filter_map(|s| s.scheme.as_ref()) {
        if !declared.schemes.iter().any(|s| s.name == *scratch) {
            return Err(Error::Elf(format!("manifest: scratch for scheme {scratch}, which is not declared")));
        }
    }
    Ok(())
}
