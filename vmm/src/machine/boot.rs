//! The state that an image is started in: 64-bit mode, flat segments, page
//! tables below the image (see [`guest::abi`]).

use crate::cpu::{self, Regs, Sregs};
use guest::abi::IMAGE_MIN_PADDR;

use super::layout::{GDT, TABLES};
use super::paging::Tables;
use crate::cpu::control::{
    CR0_ET, CR0_MP, CR0_NE, CR0_PE, CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE,
};
use crate::cpu::descriptor::{FLAT_CODE, FLAT_DATA};
use crate::cpu::rflags;
use crate::image::{Image, Segment};
use crate::kvm::Vm;

/// Why an image could not be put into memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// linux-loader refused the file.
    #[error("the image cannot be loaded: {0}")]
    Load(String),
    /// Too many pages for the boot tables.
    #[error("the image and {ram} bytes of RAM need more page tables than fit below {IMAGE_MIN_PADDR:#x}")]
    Tables {
        /// RAM in bytes.
        ram: u64,
    },
}

/// 64-bit mode at CPL 0, with RAM mapped one to one and `segments` where they belong.
pub(super) fn flat(vm: &mut Vm, segments: &[Segment]) -> Result<(), Error> {
    let ram_bytes = vm.ram().len();
    let ram = vm.ram_mut();
    for (i, descriptor) in [0, FLAT_CODE, FLAT_DATA].into_iter().enumerate() {
        let at = GDT as usize + 8 * i;
        ram[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
    }
    let mut tables = Tables::new(ram, TABLES.start, TABLES.end);
    let full = || Error::Tables { ram: ram_bytes };
    for page in (0..ram_bytes).step_by(4096) {
        tables.map(page, page).ok_or_else(full)?;
    }
    for s in segments {
        let skew = s.vaddr % 4096;
        for offset in (0..s.size + skew).step_by(4096) {
            tables.map(s.vaddr - skew + offset, s.paddr - skew + offset).ok_or_else(full)?;
        }
    }
    let cr3 = tables.root();
    let state = vm.state_mut();
    set_system_registers(&mut state.sregs, cr3);
    state.events = Default::default();
    Ok(())
}

/// Loads the image into RAM and sets the vCPU to its entry point.
pub fn prepare(vm: &mut Vm, image: &Image, scheme: u64, scenario: u64) -> Result<(), Error> {
    vm.load_elf(image.bytes()).map_err(|e| Error::Load(e.to_string()))?;
    flat(vm, &image.segments)?;
    let ram_bytes = vm.ram().len();
    vm.state_mut().regs = Regs {
        rip: image.entry,
        rflags: rflags::FIXED,
        rdi: scheme,
        rsi: scenario,
        rdx: ram_bytes,
        ..Default::default()
    };
    Ok(())
}

fn set_system_registers(sregs: &mut Sregs, cr3: u64) {
    let flat = |selector: u16, type_: u8, code: bool| cpu::Segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: (!code).into(),
        s: 1,
        l: code.into(),
        g: 1,
        ..Default::default()
    };
    sregs.cs = flat(0x08, 0xb, true);
    let data = flat(0x10, 0x3, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = GDT;
    sregs.gdt.limit = 3 * 8 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    sregs.cr3 = cr3;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
}
