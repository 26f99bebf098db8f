//! How much memory the process has, for a search that has the process to itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

/// Opened before the sandbox, which lets no other file be opened.
static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());

const PAGE: usize = 4096;

/// Bytes that are resident; `None` where the kernel does not say. Opens what is read at the first
/// call.
pub fn resident() -> Option<usize> {
    let mut text = [0; 128];
    let read = STATM.as_ref()?.read_at(&mut text, 0).ok()?;
    // proc(5): the program's size, and what of it is resident, in pages.
    let pages = str::from_utf8(&text[..read]).ok()?.split(' ').nth(1)?;
    pages.parse::<usize>().ok()?.checked_mul(PAGE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allocated_and_touched_is_counted() {
        const BYTES: usize = 64 << 20;
        let before = super::resident().unwrap();
        let room = std::hint::black_box(vec![1u8; BYTES]);
        let after = super::resident().unwrap();
        assert!(before > 1 << 20 && after >= before + BYTES * 9 / 10, "{before} {after} {}", room.len());
    }
}
