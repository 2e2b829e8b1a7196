//! Slows down guessing: who fails again and again waits longer and longer.

/// How many (source, name) pairs are remembered. With more, the one that failed longest ago is forgotten.
const ENTRIES: usize = 64;

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u8 = 5;

/// The first wait; it doubles with every failure.
const FIRST_WAIT_MILLISECONDS: u64 = 250;

/// Doubled at most so often: 250 ms, then 0.5, 1, 2, 4 s. A log-on that was guessed against succeeds within five seconds.
const MAXIMUM_DOUBLINGS: u8 = 4;

/// After this long without a failure all is forgotten.
const FORGOTTEN_MILLISECONDS: u64 = 300_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    failures: u8,
    /// On the monotonic clock.
    last_failure: u64,
}

/// Remembers failures by where they came from and which account they were for. Known and unknown names count alike.
#[derive(Clone, Debug)]
pub struct BackOff {
    entries: [Option<Entry>; ENTRIES],
    /// A secret of this machine, so that nobody can choose names that fall together.
    seed: u64,
}

impl BackOff {
    /// Remembers nothing. `seed` is random.
    pub const fn new(seed: u64) -> BackOff {
        BackOff { entries: [None; ENTRIES], seed }
    }

    /// Whether an attempt is refused unseen at `now` (milliseconds on a monotonic clock).
    pub(crate) fn refuses(&self, source: u64, name: &[u16], now: u64) -> bool {
        let key = self.key(source, name);
        self.entries.iter().flatten().any(|entry| entry.key == key && now < entry.allowed())
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, source: u64, name: &[u16], now: u64) {
        let key = self.key(source, name);
        let found = self.entries.iter().flatten().find(|entry| entry.key == key);
        let failures = match found {
            Some(entry) if now.saturating_sub(entry.last_failure) < FORGOTTEN_MILLISECONDS => entry.failures,
            _ => 0,
        };
        // Its own place, else a free one, else the oldest.
        let place = self.entries.iter_mut().min_by_key(|entry| match entry {
            Some(entry) if entry.key == key => (0, 0),
            None => (1, 0),
            Some(entry) => (2, entry.last_failure),
        });
        if let Some(place) = place {
            *place = Some(Entry { key, failures: failures.saturating_add(1), last_failure: now });
        }
    }

    /// An attempt succeeded: the count starts anew.
    pub(crate) fn succeeded(&mut self, source: u64, name: &[u16]) {
        let key = self.key(source, name);
        for entry in &mut self.entries {
            if entry.is_some_and(|entry| entry.key == key) {
                *entry = None;
            }
        }
    }

    /// FNV-1a over the seed, the source and the name in upper case.
    fn key(&self, source: u64, name: &[u16]) -> u64 {
        let units = name.iter().map(|unit| u64::from(crate::account::upper_case(*unit)));
        [self.seed, source].into_iter().chain(units).fold(0xCBF2_9CE4_8422_2325, |hash: u64, value| {
            (hash ^ value).wrapping_mul(0x100_0000_01B3).rotate_left(23)
        })
    }
}

impl Entry {
    /// When the next attempt is looked at.
    fn allowed(&self) -> u64 {
        let Some(beyond) = self.failures.checked_sub(FREE_FAILURES) else { return 0 };
        let wait = FIRST_WAIT_MILLISECONDS << beyond.min(MAXIMUM_DOUBLINGS);
        self.last_failure.saturating_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: [u16; 3] = [0x6E, 0x61, 0x73];

    #[test]
    fn waits_grow_and_end() {
        let mut back_off = BackOff::new(1);
        let mut now = 1000;
        for _ in 0..FREE_FAILURES {
            assert!(!back_off.refuses(7, &NAME, now));
            back_off.failed(7, &NAME, now);
        }
        for wait in [250, 500, 1000, 2000, 4000, 4000] {
            assert!(back_off.refuses(7, &NAME, now + wait - 1), "{wait}");
            assert!(back_off.refuses(7, &[0x4E, 0x41, 0x53], now), "upper case is the same name");
            assert!(!back_off.refuses(8, &NAME, now), "another source");
            now += wait;
            assert!(!back_off.refuses(7, &NAME, now));
            back_off.failed(7, &NAME, now);
        }
        back_off.succeeded(7, &NAME);
        assert!(!back_off.refuses(7, &NAME, now));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut back_off = BackOff::new(1);
        for _ in 0..20 {
            back_off.failed(7, &NAME, 0);
        }
        assert!(back_off.refuses(7, &NAME, 3999));
        back_off.failed(7, &NAME, FORGOTTEN_MILLISECONDS);
        assert!(!back_off.refuses(7, &NAME, FORGOTTEN_MILLISECONDS));
    }

    #[test]
    fn the_table_does_not_grow() {
        let mut back_off = BackOff::new(1);
        for name in 0..1000u16 {
            back_off.failed(7, &[name], u64::from(name));
        }
        assert_eq!(back_off.entries.iter().flatten().count(), ENTRIES);
        for _ in 0..=FREE_FAILURES {
            back_off.failed(7, &NAME, 5000);
        }
        assert!(back_off.refuses(7, &NAME, 5001));
    }
}
