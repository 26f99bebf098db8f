//! The time-stamp counter as a kernel sees it once it has come up: it stands still, but for a
//! little each time that it is read, and goes on with the timer while the CPU is idle. So no
//! path depends on how busy the host is, nor on how long ago a saved machine came up; KVMs
//! differ in whether the counter can be set at all.
//!
//! KVM does not exit for RDTSC. Where the kernel has one is found in its text; there the
//! machine stops, and answers.

use std::ops::Range;

use iced_x86::Mnemonic;

use super::Pc;
use crate::cpu::msr;
use crate::image::Decoded;

const RDTSC: [u8; 2] = [0x0f, 0x31];
const RDTSCP: [u8; 3] = [0x0f, 0x01, 0xf9];

impl Pc {
    /// From now on the counter is the machine's own. It begins where the vCPU's stands, unless
    /// the machine came out of a file, which says where.
    pub(super) fn hold_clock(&mut self, tsc: u64) {
        self.held.get_or_insert(tsc);
        if self.clock_reads.is_empty() {
            self.clock_reads = self.find_clock_reads();
            log::debug!("the kernel reads the time-stamp counter at {} places", self.clock_reads.len());
        }
    }

    /// How many ticks go by from one read of the counter to the next.
    pub fn set_clock_pace(&mut self, ticks: u64) {
        self.pace = ticks;
    }

    /// The instructions of the kernel's text that read the counter, as they are in memory now.
    fn find_clock_reads(&self) -> Vec<u64> {
        let is_read = |d: &Decoded| reads(d.insn.mnemonic());
        self.symbols.text().into_iter().flat_map(|text| self.find_code(text, &[&RDTSC, &RDTSCP], is_read)).collect()
    }

    /// The instructions in `text` that begin with one of `openings`, and are what is looked for.
    pub fn find_code(&self, text: Range<u64>, openings: &[&[u8]], is: impl Fn(&Decoded) -> bool) -> Vec<u64> {
        let bytes = self.bytes_of(text.clone());
        let opens = |i: &usize| openings.iter().any(|opening| bytes[*i..].starts_with(opening));
        let found = (0..bytes.len()).filter(opens).map(|i| text.start + i as u64);
        found.filter(|at| self.begins_at(*at).is_some_and(|d| is(&d))).collect()
    }

    /// What is in memory there, as far as all of RAM would reach; zeros where no page is mapped.
    fn bytes_of(&self, text: Range<u64>) -> Vec<u8> {
        const PAGE: u64 = 4096;
        let stop = text.end.min(text.start.saturating_add(self.ram().len() as u64));
        let mut bytes = vec![0; stop.saturating_sub(text.start) as usize];
        let mut at = text.start;
        while at < stop {
            let end = (at | (PAGE - 1)).saturating_add(1).min(stop);
            let part = &mut bytes[(at - text.start) as usize..(end - text.start) as usize];
            if !self.read(at, part) {
                part.fill(0);
            }
            at = end;
        }
        bytes
    }

    /// The instruction that begins at `addr`, if one does.
    fn begins_at(&self, addr: u64) -> Option<Decoded> {
        let mut at = self.symbols.at_or_before(addr).unwrap_or(addr);
        while at < addr {
            // Data between functions decodes to nothing that is known.
            at = self.instruction(at)?.insn.next_ip();
        }
        self.instruction(at).filter(|_| at == addr)
    }

    /// Whether the clock is held, and is read at `addr` as far as is known.
    pub(super) fn reads_clock(&self, addr: u64) -> bool {
        self.held.is_some() && self.clock_reads.contains(&addr)
    }

    /// The clock goes on, as if so much time had gone by.
    pub(super) fn advance_clock(&mut self, nanos: u64) {
        match (&mut self.held, self.vm.tsc_khz()) {
            (Some(held), Some(khz)) => {
                *held = held.wrapping_add((u128::from(nanos) * u128::from(khz) / 1_000_000) as u64);
            }
            _ => self.vm.advance_tsc(nanos),
        }
    }

    /// Where the clock is held and the next instruction reads it: whether it reads TSC_AUX, too.
    pub(super) fn held_clock_read(&self) -> Option<bool> {
        self.held?;
        let d = self.next_instruction().filter(|d| reads(d.insn.mnemonic()))?;
        Some(d.insn.mnemonic() == Mnemonic::Rdtscp)
    }

    /// If the clock is held and the next instruction reads it, answers for it. From then on
    /// runs stop there, too.
    pub(super) fn answer_rdtsc(&mut self) -> bool {
        let Some(held) = self.held else { return false };
        let Some(d) = self.next_instruction().filter(|d| reads(d.insn.mnemonic())) else { return false };
        let rip = self.rip();
        if !self.clock_reads.contains(&rip) {
            self.clock_reads.push(rip);
        }
        let aux = match d.insn.mnemonic() {
            Mnemonic::Rdtscp => self.vm.msr(msr::TSC_AUX).ok().flatten(),
            _ => None,
        };
        let now = held.wrapping_add(self.pace);
        self.held = Some(now);
        let regs = &mut self.state_mut().regs;
        (regs.rax, regs.rdx, regs.rip) = (now & 0xffff_ffff, now >> 32, d.insn.next_ip());
        regs.rcx = aux.unwrap_or(regs.rcx);
        true
    }
}

/// Whether an instruction reads the time-stamp counter.
fn reads(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Rdtsc | Mnemonic::Rdtscp)
}
