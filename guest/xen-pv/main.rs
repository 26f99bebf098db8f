//! A paravirtual guest of Xen's, as small as can be: it works for ever, makes hypercalls, and takes
//! NMIs by a callback whose body `vmm xen --body` chooses. All of it is assembly, since all of it is
//! the border between a guest and Xen.
#![no_std]
#![no_main]

core::arch::global_asm!(include_str!("pv.s"), options(att_syntax));

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
