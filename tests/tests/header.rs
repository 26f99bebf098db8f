//! scripts/examples/include/nmi_lab.h says what guest/src/abi.rs says.

mod common;

use std::collections::BTreeSet;
use std::mem::offset_of;

use common::gcc;
use guest::abi::{self, CallbackRegister, Frame, FredConfig, FredFrame, IretContext, Regs};

/// Every number of the header, by its name without `NMI_LAB_`.
fn numbers() -> Vec<(&'static str, u64)> {
    macro_rules! offsets {
        ($($name:literal = $type:ident.$field:ident),* $(,)?) => { vec![$(($name, offset_of!($type, $field) as u64)),*] };
    }
    let mut all = vec![
        ("ABI_VERSION", abi::ABI_VERSION.into()),
        ("IMAGE_MIN_PADDR", abi::IMAGE_MIN_PADDR),
        ("DEFAULT_RAM", abi::DEFAULT_RAM),
        ("NOTE_TYPE_MANIFEST", abi::NOTE_TYPE_MANIFEST.into()),
        ("PORT_READY", abi::PORT_READY.into()),
        ("PORT_BODY_BEGIN", abi::PORT_BODY_BEGIN.into()),
        ("PORT_BODY_END", abi::PORT_BODY_END.into()),
        ("PORT_SCENARIO_END", abi::PORT_SCENARIO_END.into()),
        ("PORT_PANIC", abi::PORT_PANIC.into()),
        ("PORT_PV", abi::PORT_PV.into()),
        ("PORT_ERETS", abi::PORT_ERETS.into()),
        ("PORT_ERETU", abi::PORT_ERETU.into()),
        ("HYPERCALL_STUB_CALL", abi::HYPERCALL_STUB_CALL),
        ("HYPERCALL_STACK_SWITCH", abi::HYPERCALL_STACK_SWITCH),
        ("HYPERCALL_MMUEXT_OP", abi::HYPERCALL_MMUEXT_OP),
        ("HYPERCALL_FRED_CONFIG", abi::HYPERCALL_FRED_CONFIG),
        ("CALLBACKOP_UNREGISTER", abi::CALLBACKOP_UNREGISTER),
        ("CALLBACKTYPE_EVENT", abi::CALLBACKTYPE_EVENT.into()),
        ("CALLBACKTYPE_FAILSAFE", abi::CALLBACKTYPE_FAILSAFE.into()),
        ("CALLBACKTYPE_SYSCALL", abi::CALLBACKTYPE_SYSCALL.into()),
        ("CALLBACKF_MASK_EVENTS", abi::CALLBACKF_MASK_EVENTS.into()),
        ("CALLBACKF_EXPLICIT_UNMASK", abi::CALLBACKF_EXPLICIT_UNMASK.into()),
        ("XENNMI_REGISTER_CALLBACK", abi::XENNMI_REGISTER_CALLBACK),
        ("XENNMI_UNREGISTER_CALLBACK", abi::XENNMI_UNREGISTER_CALLBACK),
        ("FRED_SS_NMI", abi::FRED_SS_NMI),
        ("FRED_CS_LEVEL_SHIFT", abi::FRED_CS_LEVEL_SHIFT.into()),
        ("HYPERCALL_IRET", abi::HYPERCALL_IRET),
        ("HYPERCALL_SET_SEGMENT_BASE", abi::HYPERCALL_SET_SEGMENT_BASE),
        ("SEGBASE_FS", abi::SEGBASE_FS),
        ("SEGBASE_GS_USER", abi::SEGBASE_GS_USER),
        ("SEGBASE_GS_KERNEL", abi::SEGBASE_GS_KERNEL),
        ("MMUEXT_NEW_USER_BASEPTR", abi::MMUEXT_NEW_USER_BASEPTR),
        ("HYPERCALL_NMI_OP", abi::HYPERCALL_NMI_OP),
        ("HYPERCALL_CALLBACK_OP", abi::HYPERCALL_CALLBACK_OP),
        ("CALLBACKOP_REGISTER", abi::CALLBACKOP_REGISTER),
        ("CALLBACKTYPE_NMI", abi::CALLBACKTYPE_NMI.into()),
        ("VGCF_IN_SYSCALL", abi::VGCF_IN_SYSCALL),
        ("IRET_UNMASK_NMI", abi::IRET_UNMASK_NMI),
        ("ENTRY_THREAD_SP", abi::ENTRY_THREAD_SP),
        ("ENTRY_TRAMPOLINE_SP", abi::ENTRY_TRAMPOLINE_SP),
        ("ENTRY_USER_TABLE", abi::ENTRY_USER_TABLE),
        ("REGS_SIZE", size_of::<Regs>() as u64),
        ("FRAME_SIZE", size_of::<Frame>() as u64),
        ("IRET_SIZE", size_of::<IretContext>() as u64),
    ];
    all.extend(offsets! {
        "REGS_R15" = Regs.r15, "REGS_R14" = Regs.r14, "REGS_R13" = Regs.r13, "REGS_R12" = Regs.r12,
        "REGS_RBP" = Regs.rbp, "REGS_RBX" = Regs.rbx, "REGS_R11" = Regs.r11, "REGS_R10" = Regs.r10,
        "REGS_R9" = Regs.r9, "REGS_R8" = Regs.r8, "REGS_RAX" = Regs.rax, "REGS_RCX" = Regs.rcx,
        "REGS_RDX" = Regs.rdx, "REGS_RSI" = Regs.rsi, "REGS_RDI" = Regs.rdi, "REGS_ERROR" = Regs.error,
        "REGS_FRAME" = Regs.frame,
        "FRAME_RIP" = Frame.rip, "FRAME_CS" = Frame.cs, "FRAME_RFLAGS" = Frame.rflags, "FRAME_RSP" = Frame.rsp,
        "FRAME_SS" = Frame.ss,
        "IRET_RAX" = IretContext.rax, "IRET_R11" = IretContext.r11, "IRET_RCX" = IretContext.rcx,
        "IRET_FLAGS" = IretContext.flags, "IRET_FRAME" = IretContext.frame,
    });
    all
}

/// Macros of the header that are no numbers.
const OTHERS: [&str; 4] = ["NOTE_NAME", "NOTE", "CALL", "H"];

#[test]
fn the_header_and_the_test_name_the_same_constants() {
    let text = std::fs::read_to_string(gcc::examples().join("include/nmi_lab.h")).unwrap();
    let defined = text.lines().filter_map(|l| l.strip_prefix("#define NMI_LAB_"));
    let defined: BTreeSet<&str> =
        defined.map(|l| l.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap()).collect();
    let tested: BTreeSet<&str> = numbers().iter().map(|(n, _)| *n).chain(OTHERS).collect();
    assert_eq!(defined, tested);

    let rust = std::fs::read_to_string(gcc::examples().join("../../guest/src/abi.rs")).unwrap();
    for line in rust.lines().filter_map(|l| l.strip_prefix("pub const ")) {
        let name = line.split(':').next().unwrap();
        assert!(defined.contains(name), "the header lacks {name}");
    }
}

#[test]
fn c_sees_the_same_numbers_and_layouts() {
    if !gcc::is_there() {
        return;
    }
    let mut text = String::from("#include <stddef.h>\n#include \"nmi_lab.h\"\n");
    for (name, value) in numbers() {
        text += &format!("_Static_assert(NMI_LAB_{name} == {value}UL, \"{name}\");\n");
    }
    text += &format!("_Static_assert(sizeof(NMI_LAB_NOTE_NAME) == {}, \"\");\n", abi::NOTE_NAME.len() + 1);
    text += &format!("static const char name[] = NMI_LAB_NOTE_NAME;\n_Static_assert(sizeof name == {}, \"\");\n", 8);
    for (c, size) in [
        ("regs", size_of::<Regs>()),
        ("frame", size_of::<Frame>()),
        ("iret_context", size_of::<IretContext>()),
        ("callback_register", size_of::<CallbackRegister>()),
        ("fred_config", size_of::<FredConfig>()),
        ("fred_frame", size_of::<FredFrame>()),
    ] {
        text += &format!("_Static_assert(sizeof(struct nmi_lab_{c}) == {size}, \"{c}\");\n");
    }
    for (name, value) in numbers() {
        let (kind, field) = match name.split_once('_') {
            Some(("REGS", field)) => ("regs", field),
            Some(("FRAME", field)) => ("frame", field),
            Some(("IRET", field)) if field != "UNMASK_NMI" => ("iret_context", field),
            _ => continue,
        };
        if field != "SIZE" {
            let field = field.to_lowercase();
            text += &format!("_Static_assert(offsetof(struct nmi_lab_{kind}, {field}) == {value}, \"{name}\");\n");
        }
    }
    let fields = [
        ("kind", offset_of!(CallbackRegister, kind)),
        ("flags", offset_of!(CallbackRegister, flags)),
        ("pad", offset_of!(CallbackRegister, pad)),
        ("address", offset_of!(CallbackRegister, address)),
    ];
    let fred = [
        ("config, config", offset_of!(FredConfig, config)),
        ("config, levels", offset_of!(FredConfig, levels)),
        ("config, rsp", offset_of!(FredConfig, rsp)),
        ("frame, error", offset_of!(FredFrame, error)),
        ("frame, frame", offset_of!(FredFrame, frame)),
        ("frame, data", offset_of!(FredFrame, data)),
        ("frame, reserved", offset_of!(FredFrame, reserved)),
    ];
    for (field, at) in fred {
        text += &format!("_Static_assert(offsetof(struct nmi_lab_fred_{field}) == {at}, \"\");\n");
    }
    for (field, at) in fields {
        text += &format!("_Static_assert(offsetof(struct nmi_lab_callback_register, {field}) == {at}, \"\");\n");
    }
    text += "const char *user(void) { return name; }\nNMI_LAB_NOTE(\"abi 1 # \\\"quoted\\\"\");\n";
    let object = gcc::object("header.c", &text, &["-std=gnu11", "-O2"]);
    let said = b"abi 1 # \"quoted\"\n";
    assert!(object.windows(said.len()).any(|w| w == said), "the note holds its text");
}

#[test]
fn assembly_sees_the_same_numbers() {
    if !gcc::is_there() {
        return;
    }
    let mut text =
        String::from("#include \"nmi_lab.h\"\nNMI_LAB_NOTE(\"abi 1\")\nNMI_LAB_PUSH_REGS\nNMI_LAB_POP_REGS\n");
    for (name, value) in numbers() {
        text += &format!(".if NMI_LAB_{name} != {value}\n.error \"{name}\"\n.endif\n");
    }
    gcc::object("header.S", &text, &[]);
}
