//! The reference page table: what the kernel maps is true there first.

use core::ops::Range;

use guest::abi;

use super::layout::{self, LARGE_PAGE, PAGE};
use super::process;
use super::table::{self, Access, Table};

unsafe extern "C" {
    static image_start: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
    static data_end: u8;
    static nmi_stack_low: u8;
    static nmi_stack_high: u8;
    static high_stack_low: u8;
    static image_end: u8;
    static user_data_low: u8;
    static user_stack_high: u8;
}

/// Builds it: the direct map in large pages, the image in small ones with the permissions
/// of each part. The guard page below the NMI stack is not mapped.
///
/// # Panics
/// Where the linker script places something elsewhere than `layout` says.
pub fn build(ram: u64) {
    assert!(
        layout::physical(&raw const image_start as u64) == abi::IMAGE_MIN_PADDR,
        "VIRTUAL_BASE is not IMAGE_OFFSET"
    );
    assert!(&raw const user_data_low as u64 == layout::USER_DATA, "USER_BASE is not USER_TEXT");
    assert!(&raw const user_stack_high as u64 == layout::USER_SP, "user_stack_high is not USER_SP");
    let root = process::reference();
    for physical in (0..ram).step_by(LARGE_PAGE as usize) {
        table::map_large(root, layout::direct(physical), physical);
    }
    let image = |from: *const u8, to: *const u8, access| map_image(root, from as u64..to as u64, access);
    image(&raw const image_start, &raw const rodata_start, Access::Execute);
    image(&raw const rodata_start, &raw const rodata_end, Access::Read);
    image(&raw const data_start, &raw const data_end, Access::Write);
    image(&raw const nmi_stack_low, &raw const nmi_stack_high, Access::Write);
    image(&raw const high_stack_low, &raw const image_end, Access::Write);
    // In the reference; a process gets them by `process::give_user`.
    table::map(root, layout::USER_TEXT, layout::user_text(), Access::UserExecute);
    table::map(root, layout::USER_DATA, layout::user_data(), Access::UserWrite);
}

/// Maps a part of the image in `root`. At boot.
pub fn map_image(root: &'static Table, addresses: Range<u64>, access: Access) {
    for address in addresses.step_by(PAGE as usize) {
        table::map(root, address, layout::physical(address), access);
    }
}
