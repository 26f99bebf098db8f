//! A panic reaches the user of the lab with its message and its place.

use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use crate::{arch::cpu, hyper};

/// The longest message that is passed on; the rest is cut off.
const MAX: usize = 256;

/// A text in the making, on the stack: a panic may come at any time.
struct Text {
    bytes: [MaybeUninit<u8>; MAX],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            let Some(slot) = self.bytes.get_mut(self.len) else {
                break;
            };
            slot.write(byte);
            self.len += 1;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Text { bytes: [const { MaybeUninit::uninit() }; MAX], len: 0 };
    let _ = write!(text, "{}", info.message());
    if let Some(place) = info.location() {
        // Not in one `write!`: its arguments would be copied by SSE registers.
        let _ = text.write_str(", at ");
        let _ = text.write_str(place.file());
        let _ = write!(text, ":{}", place.line());
    }
    // SAFETY: the first `len` bytes were written by `write_str`.
    let said = unsafe { core::slice::from_raw_parts(text.bytes.as_ptr().cast::<u8>(), text.len) };
    hyper::panic(said);
    cpu::halt()
}
