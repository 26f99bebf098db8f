//! Interrupts that the CPU sends by the interrupt command register (SDM vol. 3, 11.6.1); on this
//! machine there is nobody to send them to but itself.

use super::{Apic, Sent};

impl Apic {
    /// Carries out the command.
    pub(super) fn send(&mut self) -> Option<Sent> {
        let [command, _] = self.command;
        let (vector, level, is_level) = (command as u8, command >> 14 & 1 != 0, command >> 15 & 1 != 0);
        if !self.is_addressed() {
            return None;
        }
        match command >> 8 & 7 {
            // Fixed, lowest priority. Vectors below 16 are illegal.
            0 | 1 if self.is_on() && vector >= 16 && (level || !is_level) => {
                self.requested.set(vector);
                self.own.set(vector);
                match is_level {
                    true => self.level.set(vector),
                    false => self.level.clear(vector),
                }
                None
            }
            4 => Some(Sent::Nmi),
            5 if level || !is_level => Some(Sent::Init),
            _ => None,
        }
    }

    /// Whether the command's destination is this CPU.
    fn is_addressed(&self) -> bool {
        const TO_ALL: u8 = 0xff;
        let [command, high] = self.command;
        let to = (high >> 24) as u8;
        match command >> 18 & 3 {
            1 | 2 => true, // itself, all
            3 => false,    // all but itself
            _ if command >> 11 & 1 == 0 => to == self.id || to == TO_ALL,
            // By its logical destination: flat, or by clusters.
            _ if to == TO_ALL => true,
            _ if self.format == 0xf000_0000 => to & self.logical != 0,
            _ => to >> 4 == self.logical >> 4 && to & self.logical & 0xf != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::offset;
    use super::*;

    /// What becomes of a command to a destination.
    fn sent(high: u32, command: u32) -> (Option<Sent>, Option<u8>) {
        let mut apic = Apic::default();
        apic.write(offset::LOGICAL_DESTINATION, 0x0200_0000, 0);
        apic.write(offset::COMMAND_HIGH, high, 0);
        (apic.write(offset::COMMAND, command, 0), apic.ready(false))
    }

    #[test]
    fn a_command_reaches_the_cpu_that_it_names() {
        assert_eq!(sent(0, 0x400), (Some(Sent::Nmi), None));
        assert_eq!(sent(0x0100_0000, 0x400), (None, None), "another CPU's");
        assert_eq!(sent(0xff00_0000, 0x40), (None, Some(0x40)));
        assert_eq!(sent(0x0100_0000, 0x4_0040), (None, Some(0x40)), "the shorthand counts");
        assert_eq!(sent(0, 0xc_0040), (None, None), "all but itself");
        assert_eq!(sent(0x0200_0000, 0x840), (None, Some(0x40)), "by its logical destination");
        assert_eq!(sent(0x0500_0000, 0x840), (None, None));
        assert_eq!(sent(0, 0x4500), (Some(Sent::Init), None));
        assert_eq!(sent(0, 0x4_000f), (None, None), "an illegal vector");
    }
}
