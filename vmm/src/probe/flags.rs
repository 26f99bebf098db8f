//! What becomes of RFLAGS.AC where an event is delivered.
//!
//! A delivery clears TF, NT, RF and VM, and IF by the gate. It leaves AC alone, which matters to
//! an NMI's code under SMAP, and to whoever compares what a handler sees.

use super::bench::{Bench, CODE, Came, FAULT_STACK, Fail, NMI_STACK, NON_CANONICAL, UNMAPPED, USER, unexpected};
use super::code::*;
use super::spec::{Answer, Probe, source};
use crate::cpu::rflags;
use crate::kvm::Host;

/// The answer that the model of the CPU has a knob for.
pub const CLEARED: &str = "cleared, and kept in the frame";

pub const PROBES: &[Probe] = &[Probe {
    id: "delivery-ac",
    property: "AC while a fault, a trap or an NMI is delivered: the frame has it, and the handler, too",
    right: &["kept"],
    source: source::DELIVERY,
    lab: "predicts that it is cleared where it always is; otherwise a search in which AC is set is not closed",
    measure,
}];

/// An event with AC set.
struct Case {
    name: &'static str,
    code: &'static [u8],
    vector: u8,
    user: bool,
    /// RBX.
    address: u64,
}

const CASES: [Case; 8] = [
    Case { name: "#DE", code: &[0xf7, 0xf0], vector: 0, user: false, address: 0 }, // div %eax
    Case { name: "#DB", code: NOP, vector: 1, user: false, address: 0 },
    Case { name: "NMI", code: NOP, vector: 2, user: false, address: 0 },
    Case { name: "#UD", code: UD2, vector: 6, user: false, address: 0 },
    Case { name: "#GP", code: LOAD, vector: 13, user: false, address: NON_CANONICAL },
    Case { name: "#PF", code: STORE, vector: 14, user: false, address: UNMAPPED },
    Case { name: "NMI in ring 3", code: NOP, vector: 2, user: true, address: 0 },
    Case { name: "#UD in ring 3", code: UD2, vector: 6, user: true, address: 0 },
];

fn measure(host: &Host) -> Result<Answer, Fail> {
    let (mut cleared, mut framed) = (Vec::new(), true);
    for case in &CASES {
        let (frame, handler) = case.run(host)?;
        framed &= frame;
        if !handler {
            cleared.push(case.name);
        }
    }
    Ok(match (framed, cleared.len()) {
        (true, 0) => "kept".into(),
        (true, n) if n == CASES.len() => CLEARED.into(),
        (true, _) => format!("cleared by {}", cleared.join(", ")).into(),
        (false, _) => Answer::with("not in every frame", format!("cleared by {}", cleared.join(", "))),
    })
}

impl Case {
    /// Whether the frame has AC, and whether the handler has.
    fn run(&self, host: &Host) -> Result<(bool, bool), Fail> {
        let mut bench = Bench::new(host)?;
        let at = if self.user { USER } else { CODE };
        bench.put(at, &then_nops(self.code, 8));
        if self.user {
            bench.go_user(at);
        }
        let regs = &mut bench.vm.state_mut().regs;
        (regs.rax, regs.rbx) = (0, self.address);
        regs.rflags = rflags::FIXED | rflags::AC | if self.vector == 1 { rflags::TF } else { 0 };
        if self.vector == 2 {
            bench.vm.raise_nmi()?;
        }
        match bench.run()? {
            Came::Handler(vector) if vector == self.vector => {}
            other => return Err(unexpected(self.name, other)),
        }
        let top = if self.vector == 2 { NMI_STACK } else { FAULT_STACK };
        let frame = bench.frame_on(top).rflags;
        let handler = bench.vm.state().regs.rflags;
        Ok((frame & rflags::AC != 0, handler & rflags::AC != 0))
    }
}
