//! The time-stamp counter that a case sees: it stands still, but for a little each time that
//! it is read. A kernel that measured how long its NMI handlers take would go another way on
//! a busy host.
//!
//! KVM does not exit for RDTSC. Where the path holds one is learnt by stepping; there the
//! machine stops, and answers.

use iced_x86::Mnemonic;

use super::{Pc, Snapshot};

/// Ticks that go by from one read to the next.
const TICKS: u64 = 1000;

impl Pc {
    /// From now on the counter stands where it stood at `at`.
    pub fn hold_clock(&mut self, at: &Snapshot) {
        self.held = Some(at.deep.tsc());
    }

    /// Whether the clock is held, and is read at `addr` as far as is known.
    pub(super) fn reads_clock(&self, addr: u64) -> bool {
        self.held.is_some() && self.clock_reads.contains(&addr)
    }

    /// If the clock is held and the next instruction reads it, answers for it. From then on
    /// runs stop there, too.
    pub(super) fn answer_rdtsc(&mut self) -> bool {
        let Some(held) = self.held else { return false };
        let Some(d) = self.next_instruction().filter(|d| d.insn.mnemonic() == Mnemonic::Rdtsc) else {
            return false;
        };
        let rip = self.rip();
        if !self.clock_reads.contains(&rip) {
            self.clock_reads.push(rip);
        }
        let now = held.wrapping_add(TICKS);
        self.held = Some(now);
        let regs = &mut self.state_mut().regs;
        (regs.rax, regs.rdx, regs.rip) = (now & 0xffff_ffff, now >> 32, d.insn.next_ip());
        true
    }
}
