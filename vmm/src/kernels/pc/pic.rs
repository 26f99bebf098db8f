//! Two cascaded 8259A interrupt controllers, as a PC has them.
//!
//! They are the VMM's own and not KVM's, so that a HLT comes to the VMM (it is what
//! stops are made of), a snapshot is a copy, and no timer ticks into a run that the
//! lab did not ask to.

/// One controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Chip {
    requested: u8,
    in_service: u8,
    masked: u8,
    base: u8,
    /// Which initialisation word comes next, 0 for none.
    step: u8,
    wants_icw4: bool,
    auto_eoi: bool,
    reads_in_service: bool,
}

impl Chip {
    fn command(&mut self, value: u8) {
        match value {
            v if v & 0x10 != 0 => {
                *self = Chip { base: self.base, step: 2, wants_icw4: v & 1 != 0, ..Chip::default() };
            }
            v if v & 0x18 == 0x08 => match v & 3 {
                2 => self.reads_in_service = false,
                3 => self.reads_in_service = true,
                _ => {}
            },
            // End of interrupt: of the highest in service, or of the one named.
            v => match v >> 5 {
                1 | 5 => self.in_service &= self.in_service.wrapping_sub(1),
                3 | 7 => self.in_service &= !(1 << (v & 7)),
                _ => {}
            },
        }
    }

    fn data(&mut self, value: u8) {
        match self.step {
            2 => {
                self.base = value & 0xf8;
                self.step = 3;
            }
            3 => self.step = if self.wants_icw4 { 4 } else { 0 },
            4 => {
                self.auto_eoi = value & 2 != 0;
                self.step = 0;
            }
            _ => self.masked = value,
        }
    }

    /// The line that would interrupt now: unmasked, and of a higher priority than
    /// all in service.
    fn ready(&self) -> Option<u8> {
        let line = (self.requested & !self.masked).trailing_zeros();
        (line < self.in_service.trailing_zeros().min(8)).then_some(line as u8)
    }

    fn acknowledge(&mut self, line: u8) -> u8 {
        self.requested &= !(1 << line);
        if !self.auto_eoi {
            self.in_service |= 1 << line;
        }
        self.base + line
    }
}

/// Both controllers, the second on line 2 of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pics {
    first: Chip,
    second: Chip,
}

impl Pics {
    /// A rising edge on `line`, 0 to 15.
    pub fn raise(&mut self, line: u8) {
        match line {
            0..8 => self.first.requested |= 1 << line,
            _ => self.second.requested |= 1 << (line & 7),
        }
    }

    /// Whether an interrupt waits that the CPU may take.
    pub fn ready(&self) -> bool {
        let mut first = self.first;
        if self.second.ready().is_some() {
            first.requested |= 1 << 2;
        }
        first.ready().is_some()
    }

    /// The CPU takes the interrupt: its vector.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let cascade = self.second.ready();
        if cascade.is_some() {
            self.first.requested |= 1 << 2;
        }
        let line = self.first.ready()?;
        let vector = self.first.acknowledge(line);
        match (line, cascade) {
            (2, Some(line)) => Some(self.second.acknowledge(line)),
            _ => Some(vector),
        }
    }

    /// An OUT; `false` where the port is not theirs.
    pub fn write(&mut self, port: u16, value: u8) -> bool {
        match port {
            0x20 => self.first.command(value),
            0x21 => self.first.data(value),
            0xa0 => self.second.command(value),
            0xa1 => self.second.data(value),
            0x4d0 | 0x4d1 => {} // level or edge: everything here is an edge
            _ => return false,
        }
        true
    }

    /// An IN; `None` where the port is not theirs.
    pub fn read(&self, port: u16) -> Option<u8> {
        let status = |chip: &Chip| if chip.reads_in_service { chip.in_service } else { chip.requested };
        Some(match port {
            0x20 => status(&self.first),
            0x21 => self.first.masked,
            0xa0 => status(&self.second),
            0xa1 => self.second.masked,
            0x4d0 | 0x4d1 => 0,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initialised() -> Pics {
        let mut pics = Pics::default();
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0)] {
            assert!(pics.write(port, value));
            assert!(pics.write(port + 0x80, if value == 0x30 { 0x38 } else { value }));
        }
        pics
    }

    #[test]
    fn the_lower_line_goes_first_and_holds_the_others_back() {
        let mut pics = initialised();
        pics.raise(4);
        pics.raise(0);
        assert_eq!(pics.acknowledge(), Some(0x30));
        assert_eq!(pics.acknowledge(), None);
        pics.write(0x20, 0x60); // specific EOI of line 0
        assert_eq!(pics.acknowledge(), Some(0x34));
    }

    #[test]
    fn the_second_chip_comes_through_line_two() {
        let mut pics = initialised();
        pics.raise(8);
        assert!(pics.ready());
        assert_eq!(pics.acknowledge(), Some(0x38));
        assert!(!pics.ready());
    }

    #[test]
    fn a_masked_line_waits() {
        let mut pics = initialised();
        pics.write(0x21, 1);
        pics.raise(0);
        assert!(!pics.ready());
        assert_eq!(pics.read(0x21), Some(1));
        pics.write(0x21, 0);
        assert_eq!(pics.acknowledge(), Some(0x30));
    }
}
