//! The time of day, from the battery-backed clock at the start and the monotonic clock since.

use core::cell::Cell;

/// The earliest time that is believed: the clock chip's start values lie before it (2020-01-01).
const PLAUSIBLE: u64 = 1_577_836_800;

/// What is shown while nobody has set a clock (2024-01-01): files get stamps that FAT can hold.
const UNKNOWN: u64 = 1_704_067_200;

/// The time of day.
#[derive(Debug, Default)]
pub struct Clock {
    /// Microseconds since 1970 when the monotonic clock was 0; 0: never set.
    epoch: Cell<u64>,
}

impl Clock {
    /// A clock that was never set.
    pub const fn new() -> Self {
        Self { epoch: Cell::new(0) }
    }

    /// Sets it to `seconds` since 1970 at the monotonic time `now` (microseconds); implausible values are ignored.
    pub fn set(&self, seconds: u64, now: u64) {
        if seconds >= PLAUSIBLE {
            self.epoch.set(seconds.saturating_mul(1_000_000).saturating_sub(now));
        }
    }

    /// Whether somebody has set it.
    pub fn is_set(&self) -> bool {
        self.epoch.get() != 0
    }

    /// Microseconds since 1970 at the monotonic time `now` (microseconds).
    pub fn microseconds(&self, now: u64) -> u64 {
        let epoch = if self.is_set() { self.epoch.get() } else { UNKNOWN * 1_000_000 };
        epoch.saturating_add(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_was_set() {
        let clock = Clock::new();
        clock.set(17, 0);
        assert!(!clock.is_set());
        assert_eq!(clock.microseconds(5), UNKNOWN * 1_000_000 + 5);
        clock.set(1_800_000_000, 3_000_000);
        assert_eq!(clock.microseconds(4_000_000), 1_800_000_001_000_000);
    }
}
