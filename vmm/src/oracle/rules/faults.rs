//! Faults (I18): entry and exit code raises none that is not declared, and what is raised has
//! a handler.

use guest::abi::Frame;

use crate::image::vectors::{has_error_code, vector_name};
use crate::machine::Machine;
use crate::oracle::watch::frame_at;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// Entry or exit code raised a fault that is not declared.
    pub(in crate::oracle) fn undeclared_fault(&mut self, machine: &Machine, vector: u8, words: &Frame) {
        let cr2 = machine.state().sregs.cr2;
        self.breaks(Invariant::NoFault, |r| {
            let at = r.names().show(words.rip);
            let cr2 = if vector == 14 { format!(" (CR2 {cr2:#x})") } else { String::new() };
            format!("undeclared {} in entry or exit code at {at}{cr2}", vector_name(vector))
        });
    }

    /// An exception went to a vector that the guest does not handle.
    pub fn undeclared(&mut self, machine: &Machine, vector: u8) {
        let addr = machine.state().regs.rsp.wrapping_add(if has_error_code(vector) { 8 } else { 0 });
        let from = frame_at(machine, addr).map(|f| f.rip);
        let cr2 = machine.state().sregs.cr2;
        self.breaks(Invariant::NoFault, |r| {
            let from = from.map_or("an unreadable frame".to_owned(), |rip| r.names().show(rip));
            let cr2 = if matches!(vector, 8 | 14) { format!(" (CR2 {cr2:#x})") } else { String::new() };
            format!("unhandled {} from {from}{cr2}", vector_name(vector))
        });
    }
}
