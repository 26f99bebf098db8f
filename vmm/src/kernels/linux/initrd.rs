//! The initramfs: a cpio archive (newc, Documentation/driver-api/early-userspace)
//! with the lab's user program, behind the user's own archive where there is one.

/// The program's name in the archive, for `rdinit=`.
pub const INIT: &str = "/nmi-lab-init";

/// The user's archive and after it the lab's, which has the lab's user program.
pub fn with_user(initrd: Vec<u8>) -> Vec<u8> {
    with_init(initrd, &super::user::elf())
}

/// Appends the lab's archive to `initrd`; the kernel unpacks one after the other.
pub fn with_init(mut initrd: Vec<u8>, init: &[u8]) -> Vec<u8> {
    initrd.resize(initrd.len().next_multiple_of(512), 0);
    let console = Entry { name: "dev/console", mode: 0o020_600, device: (5, 1), body: &[] };
    let dir = Entry { name: "dev", mode: 0o040_755, device: (0, 0), body: &[] };
    let init = Entry { name: &INIT[1..], mode: 0o100_755, device: (0, 0), body: init };
    let end = Entry { name: "TRAILER!!!", mode: 0, device: (0, 0), body: &[] };
    for (inode, entry) in [dir, console, init, end].iter().enumerate() {
        entry.append(&mut initrd, inode + 1);
    }
    initrd
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    body: &'a [u8],
}

impl Entry<'_> {
    fn append(&self, out: &mut Vec<u8>, inode: usize) {
        let (body, name) = (self.body.len() as u32, self.name.len() as u32 + 1);
        let fields = [inode as u32, self.mode, 0, 0, 1, 0, body, 0, 0, self.device.0, self.device.1, name, 0];
        out.extend(b"070701");
        for field in fields {
            out.extend(format!("{field:08x}").bytes());
        }
        out.extend(self.name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_newc_and_aligned() {
        let archive = with_init(vec![1; 10], b"body");
        let own = &archive[512..];
        assert!(own.starts_with(b"070701"));
        let at = own.windows(13).position(|w| w == b"nmi-lab-init\0").unwrap();
        assert_eq!(own[at - 110..].get(..6), Some(&b"070701"[..]));
        let body = (at + 13).next_multiple_of(4);
        assert_eq!(&own[body..body + 4], b"body");
        assert!(own.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }
}
