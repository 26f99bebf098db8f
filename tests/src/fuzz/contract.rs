//! The contract with a guest: whatever it does and reports, and whenever an NMI comes, a run ends
//! with a verdict or an error.

use std::sync::{Arc, OnceLock};

use vmm::image::{Guest, Image};
use vmm::inject::{Gear, Schedule, Session, run};
use vmm::kvm::Host;
use vmm::machine::Knobs;

use crate::elf::{END, HANG, READY, Tiny};

/// Code to begin with: hypercalls with wild arguments, wild memory, and what is no instruction.
pub(super) fn contracts() -> Vec<Vec<u8>> {
    let arguments = [&[0x48, 0xbf][..], &u64::MAX.to_le_bytes(), &[0x48, 0xbe], &u64::MAX.to_le_bytes()].concat();
    let calls = (0xe0..=0xe7u8).map(|port| [READY, &arguments, &[0xe7, port], END].concat());
    let others: [&[u8]; 6] = [
        &[0x0f, 0x01, 0xc1],                                     // vmcall
        &[0x48, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff, 0xf3, 0xaa], // rep stosb, RCX = -1
        &[0xbc, 0, 0, 0, 0, 0x50],                               // push at RSP = 0
        &[0x0f, 0x0b],
        HANG,
        &[0xc6, 0x04, 0x25, 0, 0, 0x10, 0, 0xf4], // its own code
    ];
    calls.chain(others.map(|code| [READY, code, END].concat())).collect()
}

pub(super) fn contract(bytes: &[u8]) {
    static HOST: OnceLock<Host> = OnceLock::new();
    let host = HOST.get_or_init(|| Host::open().expect("KVM"));
    // What hangs is interrupted, and then judged by stepping.
    vmm::kvm::interrupt_after(std::time::Duration::from_millis(20));
    let room = 0x100 - 0x20;
    let tiny = Tiny::new(&[&bytes[..bytes.len().min(room)]]);
    let Ok(image) = Image::parse(&tiny.bytes()) else { return };
    let guest: Arc<Guest> = Guest::new(image);
    let declared = &guest.image.declared;
    let (scheme, scenario) = (&declared.schemes[0], &declared.scenarios[0]);
    let Ok(mut session) = Session::new(host, &guest, scheme, scenario, Knobs::default()) else { return };
    let names = session.rules().names();
    let middle = session.rules().golden.visits.len() / 2;
    let text = session.rules().golden.visits.get(middle).map(|v| format!("nmi@{}#{}", names.show(v.addr), v.n));
    let Some(Ok(schedule)) = text.map(|text| Schedule::parse(&text, names)) else { return };
    let verdicts = [Gear::Arm, Gear::Step, Gear::Jump].map(|gear| run(&mut session, &schedule, gear, &mut ()));
    drop(verdicts);
}
