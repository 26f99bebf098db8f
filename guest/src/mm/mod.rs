//! Memory: a direct map and the image, which every root has from its birth, and
//! a vmalloc area whose top-level entries a root may lack.

pub mod early;
pub mod fault;
pub mod layout;
pub mod process;
pub mod table;
pub mod vmalloc;

use crate::arch::espfix;
use table::{Access, LARGE_PAGE, PAGE};

unsafe extern "C" {
    static image_start: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
    static data_end: u8;
    static nmi_stack_low: u8;
    static image_end: u8;
    static user_pages: u8;
}

/// Builds the reference page table: the direct map in large pages, the image in
/// small ones with the permissions of each part. The guard page below the NMI
/// stack is not mapped.
pub fn build_reference(ram: u64) {
    let root = process::reference();
    for physical in (0..ram).step_by(LARGE_PAGE as usize) {
        table::map_large(root, layout::direct(physical), physical);
    }
    let image = |from: *const u8, to: *const u8, access| {
        for address in (from as u64..to as u64).step_by(PAGE as usize) {
            table::map(root, address, layout::physical(address), access);
        }
    };
    image(&raw const image_start, &raw const rodata_start, Access::Execute);
    image(&raw const rodata_start, &raw const rodata_end, Access::Read);
    image(&raw const data_start, &raw const data_end, Access::Write);
    image(&raw const nmi_stack_low, &raw const image_end, Access::Write);
    espfix::map(root);
    // In the reference; a process gets them by `process::give_user`.
    let user_text = layout::physical(&raw const user_pages as u64);
    table::map(root, layout::USER_TEXT, user_text, Access::UserExecute);
    table::map(root, layout::USER_DATA, user_data(), Access::UserWrite);
}

/// The physical address of the page of user data.
pub fn user_data() -> u64 {
    layout::physical(&raw const user_pages as u64) + PAGE
}
