//! The 8254 timer, on a clock that the machine gives: wall time while the kernel
//! boots, a time that stands still while cases run.

/// Its input, in Hz.
const HZ: u64 = 1_193_182;

/// Nanoseconds of a clock.
pub type Nanos = u64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Channel {
    mode: u8,
    /// Bits 4 and 5 of the control word: low byte, high byte, or both.
    access: u8,
    reload: u32,
    low: Option<u8>,
    start: Nanos,
    latched: Option<u16>,
    high_next: bool,
    /// Whether a count was written since the mode was set.
    runs: bool,
}

impl Channel {
    fn ticks(&self, now: Nanos) -> u64 {
        (u128::from(now.saturating_sub(self.start)) * u128::from(HZ) / 1_000_000_000) as u64
    }

    fn nanos(ticks: u64) -> Nanos {
        (u128::from(ticks) * 1_000_000_000 / u128::from(HZ)) as u64 + 1
    }

    fn periodic(&self) -> bool {
        matches!(self.mode & 3, 2 | 3)
    }

    fn count(&self, now: Nanos) -> u16 {
        let (ticks, reload) = (self.ticks(now), u64::from(self.reload.max(1)));
        let left = if self.periodic() { reload - ticks % reload } else { reload.wrapping_sub(ticks) };
        left as u16
    }

    fn write(&mut self, value: u8, now: Nanos) {
        let count = match (self.access, self.low) {
            (1, _) => u32::from(value),
            (2, _) => u32::from(value) << 8,
            (_, None) => {
                self.low = Some(value);
                return;
            }
            (_, Some(low)) => u32::from(value) << 8 | u32::from(low),
        };
        self.low = None;
        self.reload = if count == 0 { 0x1_0000 } else { count };
        (self.start, self.runs) = (now, true);
    }

    fn read(&mut self, now: Nanos) -> u8 {
        let count = self.latched.unwrap_or_else(|| self.count(now)).to_le_bytes();
        let high = match self.access {
            1 => false,
            2 => true,
            _ => {
                self.high_next = !self.high_next;
                !self.high_next
            }
        };
        if high || self.access != 3 {
            self.latched = None;
        }
        count[usize::from(high)]
    }

    /// The output pin of a one-shot mode: high once the count has run down.
    fn expired(&self, now: Nanos) -> bool {
        self.runs && self.ticks(now) >= u64::from(self.reload)
    }
}

/// The timer: channel 0 interrupts, channel 2 is what the kernel measures with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pit {
    channels: [Channel; 3],
    port61: u8,
    /// When channel 0 interrupts next.
    due: Option<Nanos>,
}

impl Pit {
    /// When line 0 rises next.
    pub fn due(&self) -> Option<Nanos> {
        self.due
    }

    /// Whether line 0 has risen by `now`; sets the next time.
    pub fn fire(&mut self, now: Nanos) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        let zero = &self.channels[0];
        // Ticks that nobody took are one, as on the line.
        self.due = zero.periodic().then(|| {
            let period = Channel::nanos(zero.reload.into());
            due + (now - due) / period * period + period
        });
        true
    }

    /// An OUT; `false` where the port is not the timer's.
    pub fn write(&mut self, port: u16, value: u8, now: Nanos) -> bool {
        match port {
            0x40..=0x42 => {
                let channel = &mut self.channels[usize::from(port - 0x40)];
                channel.write(value, now);
                let armed = channel.low.is_none();
                if port == 0x40 && armed {
                    self.due = Some(now + Channel::nanos(self.channels[0].reload.into()));
                }
            }
            0x43 => {
                let Some(channel) = self.channels.get_mut(usize::from(value >> 6)) else { return true };
                if value >> 4 & 3 == 0 {
                    channel.latched = Some(channel.count(now));
                } else {
                    *channel =
                        Channel { mode: value >> 1 & 7, access: value >> 4 & 3, start: now, ..Default::default() };
                    if value >> 6 == 0 {
                        self.due = None;
                    }
                }
            }
            0x61 => {
                if value & 1 != 0 && self.port61 & 1 == 0 {
                    self.channels[2].start = now; // the gate's rising edge
                }
                self.port61 = value & 3;
            }
            _ => return false,
        }
        true
    }

    /// An IN; `None` where the port is not the timer's.
    pub fn read(&mut self, port: u16, now: Nanos) -> Option<u8> {
        match port {
            0x40..=0x42 => Some(self.channels[usize::from(port - 0x40)].read(now)),
            // Bit 5 is channel 2's output, bit 4 toggles with the memory refresh.
            0x61 => {
                let out = u8::from(self.channels[2].expired(now)) << 5;
                Some(self.port61 | out | ((now / 15_000 % 2) as u8 * 0x10))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_fires_once_each_time() {
        let mut pit = Pit::default();
        pit.write(0x43, 0x34, 0);
        pit.write(0x40, 0xa9, 0);
        pit.write(0x40, 0x04, 0); // 1193 ticks: 1 ms
        assert!(!pit.fire(900_000));
        assert!(pit.fire(1_100_000));
        assert!(!pit.fire(1_200_000));
        assert!(pit.fire(9_000_000));
        assert!(!pit.fire(9_000_000));
    }

    #[test]
    fn channel_two_counts_down_and_raises_its_output() {
        let mut pit = Pit::default();
        pit.write(0x61, 1, 0);
        pit.write(0x43, 0xb0, 0);
        pit.write(0x42, 0xff, 0);
        pit.write(0x42, 0xff, 0);
        let (low, high) = (pit.read(0x42, 1_000_000), pit.read(0x42, 1_000_000));
        let count = u16::from_le_bytes([low.unwrap(), high.unwrap()]);
        assert!((0xffff - 1194..=0xffff - 1192).contains(&count), "{count:#x}");
        assert_eq!(pit.read(0x61, 1_000_000).unwrap() & 0x20, 0);
        assert_eq!(pit.read(0x61, 60_000_000).unwrap() & 0x20, 0x20);
    }
}
