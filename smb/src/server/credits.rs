//! Message numbers and credits of one connection (MS-SMB2 3.3.1.1, 3.3.1.2).

use alloc::vec;
use alloc::vec::Vec;

/// Credits that a connection may hold at most, as Windows and Samba have it.
pub const MAXIMUM_CREDITS: u16 = 8192;

/// How far the highest granted number may be ahead of the lowest unused one: twice the credits (3.3.1.1).
const MAXIMUM_SPAN: u64 = 2 * MAXIMUM_CREDITS as u64;
/// The span of a client that never asked for many credits.
const SMALL_SPAN: u64 = 256;

/// The numbers that the client may still use: all from `low` up to `high` whose bit is clear in `used`.
#[derive(Debug)]
pub(crate) struct Window {
    low: u64,
    high: u64,
    /// Bits of the numbers from `low` on, as a ring indexed by the number modulo its length. Grows with the credits
    /// that are granted, up to 2 KiB.
    used: Vec<u64>,
    outstanding: u16,
}

impl Window {
    /// A new connection's: number 0 may be used.
    pub fn new() -> Window {
        Window { low: 0, high: 1, used: vec![0; (SMALL_SPAN / 64) as usize], outstanding: 1 }
    }

    fn span(&self) -> u64 {
        self.used.len() as u64 * 64
    }

    fn bit(&self, number: u64) -> (usize, u64) {
        (((number % self.span()) / 64) as usize, 1 << (number % 64))
    }

    fn is_used(&self, number: u64) -> bool {
        let (word, mask) = self.bit(number);
        self.used.get(word).is_some_and(|bits| bits & mask != 0)
    }

    fn set_used(&mut self, number: u64, value: bool) {
        let (word, mask) = self.bit(number);
        if let Some(bits) = self.used.get_mut(word) {
            if value {
                *bits |= mask;
            } else {
                *bits &= !mask;
            }
        }
    }

    /// Makes the ring long enough for all numbers below `high`.
    fn grow(&mut self, high: u64) {
        let needed = high - self.low;
        if needed <= self.span() {
            return;
        }
        let length = needed.next_power_of_two().min(MAXIMUM_SPAN) / 64;
        let known: Vec<u64> = (self.low..self.high).filter(|number| self.is_used(*number)).collect();
        self.used = vec![0; length as usize];
        for number in known {
            self.set_used(number, true);
        }
    }

    /// Takes `charge` numbers from `first` on. False when one of them was used before or never granted: the
    /// connection must then be closed (3.3.5.2.3).
    #[must_use]
    pub fn take(&mut self, first: u64, charge: u16) -> bool {
        let Some(end) = first.checked_add(u64::from(charge)) else { return false };
        if first < self.low || end > self.high || (first..end).any(|number| self.is_used(number)) {
            return false;
        }
        for number in first..end {
            self.set_used(number, true);
        }
        self.outstanding = self.outstanding.saturating_sub(charge);
        while self.low < self.high && self.is_used(self.low) {
            self.set_used(self.low, false);
            self.low += 1;
        }
        true
    }

    /// Grants what a request asked for, within the limits; at least 1 unless the window is at its end. The answer goes
    /// into the response.
    pub fn grant(&mut self, asked: u16, limit: u16) -> u16 {
        let room = limit.min(MAXIMUM_CREDITS).saturating_sub(self.outstanding);
        let ahead = MAXIMUM_SPAN.saturating_sub(self.high - self.low);
        let granted = u64::from(asked.max(1)).min(u64::from(room)).min(ahead) as u16;
        self.grow(self.high + u64::from(granted));
        self.high += u64::from(granted);
        self.outstanding += granted;
        granted
    }

    /// The SMB1 negotiate uses up number 0 (3.3.5.3.1).
    pub fn skip_first(&mut self) {
        let _ = self.take(0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_serves_once() {
        let mut window = Window::new();
        assert!(window.take(0, 1));
        assert!(!window.take(0, 1));
        assert!(!window.take(1, 1));
        assert_eq!(window.grant(10, MAXIMUM_CREDITS), 10);
        assert!(window.take(3, 4));
        assert!(!window.take(2, 2));
        assert!(window.take(1, 2));
        assert!(!window.take(10, 2));
        assert!(window.take(7, 4));
        assert!(!window.take(u64::MAX, 2));
    }

    #[test]
    fn grants_stay_in_bounds() {
        let mut window = Window::new();
        assert_eq!(window.grant(u16::MAX, MAXIMUM_CREDITS), MAXIMUM_CREDITS - 1);
        // The number 0 stays unused, so the window may not run on without end.
        for number in 1..u64::from(MAXIMUM_CREDITS) {
            assert!(window.take(number, 1));
            window.grant(1, MAXIMUM_CREDITS);
        }
        let mut next = u64::from(MAXIMUM_CREDITS);
        while window.take(next, 1) {
            window.grant(1, MAXIMUM_CREDITS);
            next += 1;
        }
        assert_eq!(next, MAXIMUM_SPAN);
        assert!(window.take(0, 1));
        assert!(window.grant(1, MAXIMUM_CREDITS) == 1 && window.take(MAXIMUM_SPAN, 1));
    }

    #[test]
    fn zero_asked_grants_one() {
        let mut window = Window::new();
        assert!(window.take(0, 1));
        assert_eq!(window.grant(0, MAXIMUM_CREDITS), 1);
    }
}
