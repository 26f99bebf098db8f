//! The 64-bit boot protocol (Documentation/arch/x86/boot.rst): the kernel's segments,
//! the zero page, the command line, the initrd, and the registers it starts with.

use object::{Object, ObjectSegment};

use super::Error;
use super::layout::{CMDLINE, CMDLINE_MAX, GDT, HIGH, LOW_END, TABLES, ZERO_PAGE};
use crate::cpu::control::{CR0_AM, CR0_ET, CR0_MP, CR0_NE, CR0_PE, CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME};
use crate::cpu::descriptor::{FLAT_CODE, FLAT_DATA};
use crate::cpu::page::{LARGE, PRESENT, WRITE};
use crate::cpu::{msr, rflags};
use crate::kvm::Vm;

/// Loads an ELF kernel, and returns its entry point.
pub fn load(vm: &mut Vm, elf: &[u8], initrd: &[u8], cmdline: &str) -> Result<u64, Error> {
    let bad = |why: String| Error::Image(why);
    let file = object::File::parse(elf).map_err(|e| bad(e.to_string()))?;
    let ram = vm.ram().len();
    let size = file.segments().fold(initrd.len() as u64, |sum, s| sum.saturating_add(s.size()));
    let room = ram.saturating_sub(HIGH + (16 << 20));
    if size > room {
        let need = size >> 20;
        return Err(Error::Ram { ram: ram >> 20, what: format!("kernel and initrd take {need} MiB") });
    }
    let entry = vm.load_elf(elf).map_err(|e| bad(format!("its segments cannot be loaded: {e}")))?;
    if cmdline.len() >= CMDLINE_MAX {
        return Err(bad(format!("the command line has {} bytes, {CMDLINE_MAX} are possible", cmdline.len())));
    }
    let initrd_at = (ram - initrd.len() as u64) & !0xfff;
    let bytes = vm.ram_mut();
    put(bytes, CMDLINE, cmdline.as_bytes());
    put(bytes, initrd_at, initrd);
    put(bytes, ZERO_PAGE, &zero_page(ram, initrd_at, initrd.len() as u64));
    // Identity map of the first 4 GiB in 2 MiB pages.
    put_words(bytes, TABLES, &[(TABLES + 0x1000) | PRESENT | WRITE]);
    for gib in 0..4 {
        put_words(bytes, TABLES + 0x1000 + gib * 8, &[(TABLES + 0x2000 + gib * 0x1000) | PRESENT | WRITE]);
        for i in 0..512 {
            put_words(
                bytes,
                TABLES + 0x2000 + gib * 0x1000 + i * 8,
                &[((gib << 30) + (i << 21)) | PRESENT | WRITE | LARGE],
            );
        }
    }
    put_words(bytes, GDT, &[0, 0, FLAT_CODE, FLAT_DATA]);
    Ok(entry)
}

fn put(ram: &mut [u8], at: u64, bytes: &[u8]) {
    ram[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
}

fn put_words(ram: &mut [u8], at: u64, words: &[u64]) {
    for (i, word) in words.iter().enumerate() {
        put(ram, at + 8 * i as u64, &word.to_le_bytes());
    }
}

/// `struct boot_params`, at its documented offsets.
fn zero_page(ram: u64, initrd: u64, initrd_len: u64) -> Vec<u8> {
    let mut page = vec![0; 4096];
    let mut at = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
    at(0x1fe, &0xaa55u16.to_le_bytes()); // boot_flag
    at(0x202, b"HdrS");
    at(0x206, &0x20cu16.to_le_bytes()); // version
    at(0x210, &[0xff]); // type_of_loader: undefined
    at(0x218, &(initrd as u32).to_le_bytes()); // ramdisk_image
    at(0x21c, &(initrd_len as u32).to_le_bytes()); // ramdisk_size
    at(0x228, &(CMDLINE as u32).to_le_bytes()); // cmd_line_ptr
    at(0x230, &0x20_0000u32.to_le_bytes()); // kernel_alignment
    at(0x238, &(CMDLINE_MAX as u32 - 1).to_le_bytes()); // cmdline_size
    let e820 = [(0, LOW_END), (HIGH, ram - HIGH)];
    at(0x1e8, &[e820.len() as u8]); // e820_entries
    for (i, (start, len)) in e820.iter().enumerate() {
        at(0x2d0 + 20 * i, &start.to_le_bytes());
        at(0x2d8 + 20 * i, &len.to_le_bytes());
        at(0x2e0 + 20 * i, &1u32.to_le_bytes()); // usable
    }
    page
}

/// Puts the vCPU to the kernel's 64-bit entry.
pub fn set_registers(vm: &mut Vm, entry: u64) -> Result<(), Error> {
    let segment = |selector: u16, code: bool| crate::cpu::Segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: if code { 11 } else { 3 },
        present: 1,
        dpl: 0,
        db: (!code).into(),
        s: 1,
        l: code.into(),
        g: 1,
        ..Default::default()
    };
    let state = vm.state_mut();
    let sregs = &mut state.sregs;
    sregs.cs = segment(0x10, true);
    let data = segment(0x18, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, 31);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    sregs.cr3 = TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    state.regs = crate::cpu::Regs { rip: entry, rsi: ZERO_PAGE, rflags: rflags::FIXED, ..Default::default() };
    // Fast strings on; MTRRs on, write-back by default. Hosts without them say no.
    vm.set_msr(msr::MISC_ENABLE, 1)?;
    vm.set_msr(msr::MTRR_DEF_TYPE, 0xc06)?;
    vm.reset_fpu()?;
    Ok(())
}
