//! How much memory the process has, for a search that has the process to itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

/// Opened before the sandbox, which lets no other file be opened.
static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());

const PAGE: usize = 4096;

/// Bytes that are resident; 0 where the kernel does not say. Opens what is read at the first call.
pub fn resident() -> usize {
    let mut text = [0; 128];
    let read = STATM.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
    let fields = str::from_utf8(&text[..read]).unwrap_or_default().split(' ');
    fields.skip(1).find_map(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * PAGE
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_allocated_and_touched_is_counted() {
        const BYTES: usize = 64 << 20;
        let before = super::resident();
        let room = std::hint::black_box(vec![1u8; BYTES]);
        let after = super::resident();
        assert!(before > 1 << 20 && after >= before + BYTES * 9 / 10, "{before} {after} {}", room.len());
    }
}
