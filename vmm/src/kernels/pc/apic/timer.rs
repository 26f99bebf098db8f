//! The APIC's timer (SDM vol. 3, 11.5.4), on the clock that the machine gives it, as the 8254's.
//! It counts nanoseconds, as KVM's does.

use super::super::pit::Nanos;

/// The bit of its local vector table's entry that makes it periodic.
const PERIODIC: u32 = 1 << 17;

/// The timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timer {
    initial: u32,
    divide: u32,
    /// When the count runs out.
    due: Option<Nanos>,
}

impl Timer {
    /// When it interrupts next.
    pub fn due(&self) -> Option<Nanos> {
        self.due
    }

    /// The count that it starts with.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// The register that says what its clock is divided by.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// Nanoseconds of one count: 1 to 128; bits 3, 1 and 0 are the power of two less one.
    fn tick(&self) -> u64 {
        let power = (self.divide & 3 | self.divide >> 1 & 4) + 1;
        1 << (power & 7)
    }

    /// A write of the initial count starts it; zero stops it.
    pub fn start(&mut self, count: u32, now: Nanos) {
        self.initial = count;
        self.due = (count != 0).then(|| now + u64::from(count) * self.tick());
    }

    /// Another divisor: what is left of the count goes on at the new rate.
    pub fn set_divide(&mut self, value: u32, now: Nanos, entry: u32) {
        let left = self.current(now, entry);
        self.divide = value & 0xb;
        self.due = self.due.map(|_| now + u64::from(left) * self.tick());
    }

    /// The entry was changed. One that is no longer periodic runs out once.
    pub fn changes_mode(&mut self, was: u32, is: u32, now: Nanos) {
        if (was ^ is) & PERIODIC != 0 && self.due.is_some_and(|due| due <= now) {
            self.due = None;
        }
    }

    /// Whether the count has run out by `now`; sets the next time.
    pub fn fire(&mut self, now: Nanos, entry: u32) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        let period = u64::from(self.initial) * self.tick();
        // Ticks that nobody took are one.
        self.due = (entry & PERIODIC != 0 && period > 0).then(|| due + (now - due) / period * period + period);
        true
    }

    /// The count as it stands.
    pub fn current(&self, now: Nanos, entry: u32) -> u32 {
        let Some(due) = self.due else { return 0 };
        let period = u64::from(self.initial) * self.tick();
        let left = match due.checked_sub(now) {
            Some(left) => left,
            None if entry & PERIODIC != 0 && period > 0 => period - (now - due) % period,
            None => 0,
        };
        (left / self.tick()) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_down_at_the_divided_rate_and_fires_once_or_again_and_again() {
        for (divide, ticks) in [(0b1011, 1), (0b0000, 2), (0b0011, 16), (0b1010, 128)] {
            let mut timer = Timer::default();
            timer.set_divide(divide, 0, 0);
            timer.start(1000, 50);
            assert_eq!(timer.current(50 + 400 * ticks, 0), 600, "{divide:#b}");
            assert!(!timer.fire(49 + 1000 * ticks, 0));
            let (mut once, mut periodic) = (timer, timer);
            let end = 50 + 1000 * ticks;
            assert!(once.fire(end, 0) && once.due().is_none() && once.current(end, 0) == 0);
            assert!(periodic.fire(end + 2500 * ticks, PERIODIC));
            assert_eq!(periodic.due(), Some(end + 3000 * ticks));
        }
    }

    #[test]
    fn a_count_of_zero_stops_it() {
        let mut timer = Timer::default();
        timer.start(10, 0);
        timer.start(0, 5);
        assert!(!timer.fire(100, 0) && timer.due().is_none());
    }
}
