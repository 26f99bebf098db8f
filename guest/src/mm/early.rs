//! Pages for what only boot writes: tables and descriptors. They come from the
//! RAM after the image and are never given back.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::layout::{self, PAGE};

unsafe extern "C" {
    static image_end: u8;
}

static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// All of RAM from the image's end on is free.
pub fn init(ram: u64) {
    NEXT.store(layout::physical(&raw const image_end as u64), Relaxed);
    END.store(ram, Relaxed);
}

/// The page that is taken next. A physical address.
pub fn next() -> u64 {
    NEXT.load(Relaxed)
}

/// Takes a page, which the VMM gave to the guest as zeros. A physical address.
pub fn page() -> u64 {
    let page = NEXT.load(Relaxed);
    assert!(page < END.load(Relaxed), "no RAM left for boot");
    NEXT.store(page + PAGE, Relaxed);
    page
}
