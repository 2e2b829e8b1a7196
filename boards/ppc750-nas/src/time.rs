//! Timebase ticks and microseconds.

/// Ticks of the timebase and of the decrementer in a second: a quarter of the bus clock.
pub const TICKS_PER_SECOND: u32 = 16_600_000;

/// Microseconds per tick as a binary fraction: 5 / 83 times 2^32.
const MICROSECONDS_PER_TICK: u64 = (5 << 32) / 83;

/// Ticks to microseconds, without a 64-bit division (a few hundred instructions on this CPU). Never goes back when the
/// ticks do not.
#[inline]
pub const fn ticks_to_microseconds(ticks: u64) -> u64 {
    let high = ticks >> 32;
    let low = ticks & 0xFFFF_FFFF;
    high * MICROSECONDS_PER_TICK + ((low * MICROSECONDS_PER_TICK) >> 32)
}

/// Microseconds to ticks, rounded up; saturates at [`u32::MAX`] ticks (about 258 seconds).
#[inline]
pub const fn microseconds_to_ticks(microseconds: u64) -> u32 {
    // 16.6 ticks a microsecond.
    if microseconds > 258_000_000 {
        return u32::MAX;
    }
    let ticks = microseconds * 16 + ((microseconds * 0x9999_999A) >> 32) + 1;
    if ticks > u32::MAX as u64 { u32::MAX } else { ticks as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_microseconds() {
        assert_eq!(ticks_to_microseconds(0), 0);
        for seconds in [1u64, 60, 86_400, 86_400 * 365] {
            let microseconds = ticks_to_microseconds(seconds * u64::from(TICKS_PER_SECOND));
            let off = (seconds * 1_000_000).abs_diff(microseconds);
            assert!(off * 1_000_000 <= seconds * 1_000_000 + 1_000_000, "{seconds} s are off by {off} us");
        }
    }

    #[test]
    fn never_goes_back() {
        let wrap = 1u64 << 32;
        let mut before = 0;
        for ticks in (wrap - 1000)..(wrap + 1000) {
            let now = ticks_to_microseconds(ticks);
            assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn a_deadline_is_never_early() {
        for microseconds in [0u64, 1, 7, 1000, 999_999, 129_000_000] {
            let ticks = microseconds_to_ticks(microseconds);
            assert!(ticks_to_microseconds(u64::from(ticks)) + 1 >= microseconds);
            assert!(u64::from(ticks) <= microseconds * 166 / 10 + 3);
        }
        assert_eq!(microseconds_to_ticks(u64::MAX), u32::MAX);
    }
}
