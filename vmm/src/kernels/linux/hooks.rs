//! Where the machine looks in on Linux.

use crate::kernels::pc::{Hooks, KernelSymbols, Skip};

/// Functions that call printk about an NMI without a source, where the compiler inlined
/// `unknown_nmi_error`.
const HANDLERS: [&str; 3] = ["default_do_nmi", "exc_nmi", "do_nmi"];

/// The complaint about an NMI without a source.
pub fn complaint(symbols: &KernelSymbols) -> Option<Skip> {
    let whole = symbols.any(&["unknown_nmi_error", "unknown_nmi_error.constprop.0"]);
    let whole = whole.map(|function| Skip { function, callers: Vec::new() });
    let inlined = || {
        let function = symbols.any(&["_printk", "printk"])?;
        Some(Skip { function, callers: HANDLERS.iter().flat_map(|name| symbols.parts(name)).collect() })
    };
    whole.or_else(inlined).filter(|s| s.callers.iter().all(|r| !r.is_empty()))
}

/// Finds the places by their names.
pub fn hooks(symbols: &KernelSymbols) -> Hooks {
    Hooks {
        page_fault: symbols.any(&["asm_exc_page_fault", "page_fault"]),
        general_protection: symbols.any(&["asm_exc_general_protection", "general_protection"]),
        syscall: symbols.get("entry_SYSCALL_64"),
        notifier: symbols.get("notify_die"),
        panics: Vec::new(),
        late: false,
        user_stops: false,
        complaint: complaint(symbols),
    }
}
