//! Assembler that entry code, fault handlers and scenarios share.

/// A function that only the CPU may call.
pub type Handler = unsafe extern "C" fn();

/// Assembler: the shared macros of `macros.s` and `faults.s`, then `$text` in section
/// `.text.entry`, with named constants.
macro_rules! entry_asm {
    ($text:literal $(, $name:ident = $value:expr)* $(,)?) => {
        core::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/macros.s")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/arch/faults.s")),
            ".section .text.entry, \"ax\", @progbits",
            $text,
            ".text",
            external_seen = const $crate::arch::percpu::EXTERNAL_SEEN,
            gs_base = const $crate::arch::cpu::GS_BASE,
            ring3 = const $crate::arch::descriptor::RING3,
            in_ldt = const $crate::arch::descriptor::IN_LDT,
            going_cs = const $crate::arch::gdt::GOING_CS,
            going_error = const $crate::arch::gdt::GOING_ERROR,
            going_access = const $crate::arch::gdt::GOING_ACCESS,
            access_present = const $crate::arch::descriptor::ACCESS_PRESENT,
            not_tf = const $crate::arch::rflags::NOT_TF,
            stub_call = const guest::abi::HYPERCALL_STUB_CALL,
            $($name = const $value,)*
            options(att_syntax)
        );
    };
}

/// The address of the code that `$name` labels, as a handler.
macro_rules! handler {
    ($name:expr) => {{
        unsafe extern "C" {
            #[link_name = $name]
            fn labelled();
        }
        labelled as $crate::asm::Handler
    }};
}
