//! The time of day, from the battery-backed clock at the start and the monotonic clock since.

use crate::scheduler;

/// The earliest time that is believed: the clock chip's start values lie before it (2020-01-01).
const PLAUSIBLE: u64 = 1_577_836_800;

/// What is shown while nobody has set a clock (2024-01-01): files get stamps that FAT can hold.
const UNKNOWN: u64 = 1_704_067_200;

/// 100-nanosecond intervals from 1601 to 1970.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// The time of day.
#[derive(Debug, Default)]
pub struct Clock {
    /// Microseconds since 1970 when the monotonic clock was 0; 0: never set.
    epoch: spin::Mutex<u64>,
}

impl Clock {
    /// Sets it to `seconds` since 1970 at the monotonic time `now` (microseconds); implausible values are ignored.
    pub fn set(&self, seconds: u64, now: u64) {
        if seconds >= PLAUSIBLE {
            *self.epoch.lock() = seconds.saturating_mul(1_000_000).saturating_sub(now);
        }
    }

    /// Whether somebody has set it.
    pub fn is_set(&self) -> bool {
        *self.epoch.lock() != 0
    }

    /// Microseconds since 1970 at the monotonic time `now` (microseconds).
    pub fn microseconds(&self, now: u64) -> u64 {
        let epoch = *self.epoch.lock();
        let epoch = if epoch != 0 { epoch } else { UNKNOWN * 1_000_000 };
        epoch.saturating_add(now)
    }

    /// The time now as a FILETIME: 100-nanosecond intervals since 1601.
    pub fn file_time(&self) -> u64 {
        UNIX_EPOCH.saturating_add(self.microseconds(scheduler::now()).saturating_mul(10))
    }
}

/// The storage layer's time stamps.
pub struct VolumeClock(pub &'static Clock);

impl storage::time::Clock for VolumeClock {
    fn now(&self) -> storage::time::FileTime {
        storage::time::FileTime(self.0.file_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_was_set() {
        let clock = Clock::default();
        clock.set(17, 0);
        assert!(!clock.is_set());
        assert_eq!(clock.microseconds(5), UNKNOWN * 1_000_000 + 5);
        clock.set(1_800_000_000, 3_000_000);
        assert_eq!(clock.microseconds(4_000_000), 1_800_000_001_000_000);
    }
}
