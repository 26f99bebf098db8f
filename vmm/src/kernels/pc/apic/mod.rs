//! The local APIC (SDM vol. 3, chapter 11), as far as a PC with one CPU has work for it.
//!
//! It is the VMM's own and not KVM's for the reasons that [`super::pic`] gives. Where the SDM leaves
//! a choice it does what KVM's does, to which a test holds it. It is in xAPIC mode only; an INIT to
//! its own CPU is a reset, and an SMI goes nowhere, since this machine has no SMM.

mod bits;
mod ipi;
mod timer;

use super::pit::Nanos;
use bits::Bits;
use timer::Timer;

/// Where its registers are after a reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;
/// IA32_APIC_BASE: this CPU is the one that boots.
pub const BOOTS: u64 = 1 << 8;
/// IA32_APIC_BASE: it is on.
pub const ENABLED: u64 = 1 << 11;

/// Offsets of registers.
pub mod offset {
    #![expect(missing_docs, reason = "each is the register of that name in the SDM")]
    pub const ID: u64 = 0x20;
    pub const VERSION: u64 = 0x30;
    pub const TASK_PRIORITY: u64 = 0x80;
    pub const PROCESSOR_PRIORITY: u64 = 0xa0;
    pub const EOI: u64 = 0xb0;
    pub const LOGICAL_DESTINATION: u64 = 0xd0;
    pub const DESTINATION_FORMAT: u64 = 0xe0;
    pub const SPURIOUS: u64 = 0xf0;
    pub const IN_SERVICE: u64 = 0x100;
    pub const TRIGGER_MODE: u64 = 0x180;
    pub const REQUESTED: u64 = 0x200;
    pub const ERROR_STATUS: u64 = 0x280;
    pub const COMMAND: u64 = 0x300;
    pub const COMMAND_HIGH: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const LVT_LINT0: u64 = 0x350;
    pub const LVT_LINT1: u64 = 0x360;
    pub const LVT_ERROR: u64 = 0x370;
    pub const INITIAL_COUNT: u64 = 0x380;
    pub const CURRENT_COUNT: u64 = 0x390;
    pub const DIVIDE: u64 = 0x3e0;
}
use offset as at;

/// A local vector table's entry is masked.
pub const MASKED: u32 = 1 << 16;
/// The APIC is on, in the register of the spurious vector.
pub const SOFTWARE_ENABLED: u32 = 1 << 8;
/// The delivery modes of an entry or a command.
const MODE: u32 = 7 << 8;
/// An entry's delivery mode: the vector comes from the 8259s.
const EXTERNAL: u32 = 7 << 8;
/// Version 0x14, whose last entry is number 5.
const VERSION: u32 = 0x0005_0014;

/// The bits of each entry that software can write: timer, thermal, performance, LINT0, LINT1, error.
const WRITABLE: [u32; 6] = [0x0003_00ff, 0x0001_07ff, 0x0001_07ff, 0x0001_a7ff, 0x0001_a7ff, 0x0001_00ff];

/// What a command sends besides an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// An NMI.
    Nmi,
    /// An INIT.
    Init,
}

/// The local APIC of the one CPU.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Apic {
    id: u8,
    task_priority: u8,
    logical: u8,
    /// Destination format: the upper nibble.
    format: u32,
    spurious: u32,
    in_service: Bits,
    level: Bits,
    requested: Bits,
    /// Of the requested, those that the guest itself sent since the machine's time stands still.
    own: Bits,
    command: [u32; 2],
    /// The local vector table.
    lvt: [u32; 6],
    timer: Timer,
}

impl Default for Apic {
    /// As firmware leaves it: on, and the 8259s' interrupts pass through it ("virtual wire").
    fn default() -> Self {
        Self {
            id: 0,
            task_priority: 0,
            logical: 0,
            format: 0xf000_0000,
            spurious: SOFTWARE_ENABLED | 0xff,
            in_service: Bits::default(),
            level: Bits::default(),
            requested: Bits::default(),
            own: Bits::default(),
            command: [0; 2],
            lvt: [MASKED, MASKED, MASKED, EXTERNAL, 0x400, MASKED],
            timer: Timer::default(),
        }
    }
}

impl Apic {
    fn is_on(&self) -> bool {
        self.spurious & SOFTWARE_ENABLED != 0
    }

    /// The CPU's CR8, which is the upper half of the task priority.
    pub fn set_cr8(&mut self, cr8: u64) {
        if u64::from(self.task_priority >> 4) != cr8 & 0xf {
            self.task_priority = (cr8 as u8) << 4;
        }
    }

    /// What CR8 is to read as.
    pub fn cr8(&self) -> u64 {
        (self.task_priority >> 4).into()
    }

    /// Whether interrupts of the 8259s come through.
    pub fn passes_pic(&self) -> bool {
        self.lvt[3] & (MASKED | MODE) == EXTERNAL
    }

    fn processor_priority(&self) -> u8 {
        let served = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= served { self.task_priority } else { served }
    }

    /// The interrupt that the CPU may take now. Where `own`, only one that the guest sent itself.
    pub fn ready(&self, own: bool) -> Option<u8> {
        let vector = if own { self.own.highest() } else { self.requested.highest() };
        vector.filter(|vector| self.is_on() && vector & 0xf0 > self.processor_priority() & 0xf0)
    }

    /// The CPU takes it.
    pub fn acknowledge(&mut self, vector: u8) {
        self.requested.clear(vector);
        self.own.clear(vector);
        self.in_service.set(vector);
    }

    /// When the timer interrupts next.
    pub fn due(&self) -> Option<Nanos> {
        self.timer.due()
    }

    /// Lets the timer interrupt, if it is time.
    pub fn fire(&mut self, now: Nanos) {
        let entry = self.lvt[0];
        if self.timer.fire(now, entry) && entry & MASKED == 0 && self.is_on() {
            self.requested.set(entry as u8);
        }
    }

    /// From here on the machine's time stands still: only what the guest sends itself interrupts.
    pub fn freeze(&mut self) {
        self.own = Bits::default();
    }

    /// A read of the register at `offset`. Where none is, all bits are zero.
    pub fn read(&self, offset: u64, now: Nanos) -> u32 {
        match offset {
            at::ID => u32::from(self.id) << 24,
            at::VERSION => VERSION,
            at::TASK_PRIORITY => self.task_priority.into(),
            at::PROCESSOR_PRIORITY => self.processor_priority().into(),
            at::LOGICAL_DESTINATION => u32::from(self.logical) << 24,
            at::DESTINATION_FORMAT => self.format | 0x0fff_ffff,
            at::SPURIOUS => self.spurious,
            at::IN_SERVICE..at::TRIGGER_MODE => self.in_service.word(offset - at::IN_SERVICE),
            at::TRIGGER_MODE..at::REQUESTED => self.level.word(offset - at::TRIGGER_MODE),
            at::REQUESTED..at::ERROR_STATUS => self.requested.word(offset - at::REQUESTED),
            at::COMMAND => self.command[0],
            at::COMMAND_HIGH => self.command[1],
            at::LVT_TIMER..=at::LVT_ERROR if offset.is_multiple_of(16) => self.lvt[entry(offset)],
            at::INITIAL_COUNT => self.timer.initial(),
            at::CURRENT_COUNT => self.timer.current(now, self.lvt[0]),
            at::DIVIDE => self.timer.divide(),
            _ => 0,
        }
    }

    /// A write to the register at `offset`; returns what was sent to the CPU besides interrupts.
    pub fn write(&mut self, offset: u64, value: u32, now: Nanos) -> Option<Sent> {
        match offset {
            at::ID => self.id = (value >> 24) as u8,
            at::TASK_PRIORITY => self.task_priority = value as u8,
            at::EOI => {
                if let Some(vector) = self.in_service.highest() {
                    self.in_service.clear(vector);
                }
            }
            at::LOGICAL_DESTINATION => self.logical = (value >> 24) as u8,
            at::DESTINATION_FORMAT => self.format = value & 0xf000_0000,
            at::SPURIOUS => {
                self.spurious = value & 0x3ff;
                if !self.is_on() {
                    self.lvt.iter_mut().for_each(|entry| *entry |= MASKED);
                }
            }
            at::COMMAND => {
                self.command[0] = value & !(1 << 12);
                return self.send();
            }
            at::COMMAND_HIGH => self.command[1] = value & 0xff00_0000,
            at::LVT_TIMER..=at::LVT_ERROR if offset.is_multiple_of(16) => {
                let (i, off) = (entry(offset), if self.is_on() { 0 } else { MASKED });
                let was = std::mem::replace(&mut self.lvt[i], (value | off) & WRITABLE[i]);
                if offset == at::LVT_TIMER {
                    self.timer.changes_mode(was, self.lvt[i], now);
                }
            }
            at::INITIAL_COUNT => self.timer.start(value, now),
            at::DIVIDE => self.timer.set_divide(value, now, self.lvt[0]),
            _ => {}
        }
        None
    }
}

/// The number of the local vector table's entry at an offset.
fn entry(offset: u64) -> usize {
    ((offset - at::LVT_TIMER) / 16) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_class_goes_first_and_holds_the_others_back() {
        let mut apic = Apic::default();
        for vector in [0x31, 0x42, 0x4f] {
            assert_eq!(apic.write(at::COMMAND, 0x4_0000 | vector, 0), None);
        }
        assert_eq!(apic.ready(false), Some(0x4f));
        apic.acknowledge(0x4f);
        assert_eq!(apic.ready(false), None, "its own class waits");
        apic.write(at::EOI, 0, 0);
        assert_eq!(apic.ready(false), Some(0x42));
        apic.set_cr8(4);
        assert_eq!(apic.ready(false), None, "the task's priority holds it back");
        apic.set_cr8(3);
        assert_eq!(apic.ready(false), Some(0x42));
    }

    #[test]
    fn while_time_stands_still_only_what_the_guest_sends_interrupts() {
        let mut apic = Apic::default();
        apic.write(at::COMMAND, 0x4_0031, 0);
        apic.freeze();
        assert_eq!((apic.ready(false), apic.ready(true)), (Some(0x31), None));
        apic.write(at::COMMAND, 0x4_0032, 0);
        assert_eq!(apic.ready(true), Some(0x32));
    }

    #[test]
    fn what_is_off_is_masked_and_interrupts_nobody() {
        let mut apic = Apic::default();
        assert!(apic.passes_pic());
        apic.write(at::SPURIOUS, 0xff, 0);
        assert!(!apic.passes_pic());
        assert_eq!(apic.read(at::LVT_LINT1, 0), MASKED | 0x400);
        apic.write(at::LVT_LINT1, 0x400, 0);
        assert_eq!(apic.read(at::LVT_LINT1, 0), MASKED | 0x400);
        apic.write(at::COMMAND, 0x4_0031, 0);
        assert_eq!(apic.ready(false), None);
    }
}
