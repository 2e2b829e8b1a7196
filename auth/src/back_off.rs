//! Slows down guessing: who fails again and again is told so later and later.
//!
//! A right password is never refused for the failures before it: the answers to wrong ones are held back. That costs whoever
//! serves the log-on a place to keep the answer, so there is a bound: when it is reached, attempts for names that have
//! failed lately are refused unseen.

/// How many (source, name) pairs are remembered. With more, the one that failed longest ago is forgotten.
const ENTRIES: usize = 64;

/// Failures that are answered at once: people mistype.
const FREE_FAILURES: u8 = 3;

/// The first delay; it doubles with every failure.
const FIRST_DELAY_MILLISECONDS: u64 = 250;

/// Doubled at most so often: 250 ms, then 0.5, 1, 2, 4 s.
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

    /// Whether an attempt is one of those that are refused unseen when too many answers are held back. `now` is in
    /// milliseconds on a monotonic clock.
    pub(crate) fn suspects(&self, source: u64, name: &[u16], now: u64) -> bool {
        let key = self.key(source, name);
        self.entries
            .iter()
            .flatten()
            .any(|entry| entry.key == key && entry.delay() > 0 && entry.is_fresh(now))
    }

    /// An attempt failed. Gives the milliseconds that its answer is to be held back.
    pub(crate) fn failed(&mut self, source: u64, name: &[u16], now: u64) -> u64 {
        let key = self.key(source, name);
        let found = self.entries.iter().flatten().find(|entry| entry.key == key);
        let failures = match found {
            Some(entry) if entry.is_fresh(now) => entry.failures,
            _ => 0,
        };
        // Its own place, else a free one, else the oldest.
        let place = self.entries.iter_mut().min_by_key(|entry| match entry {
            Some(entry) if entry.key == key => (0, 0),
            None => (1, 0),
            Some(entry) => (2, entry.last_failure),
        });
        let entry = Entry { key, failures: failures.saturating_add(1), last_failure: now };
        if let Some(place) = place {
            *place = Some(entry);
        }
        entry.delay()
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
    /// How long the answer to its last failure is held back.
    fn delay(&self) -> u64 {
        match self.failures.checked_sub(FREE_FAILURES) {
            Some(beyond @ 1..) => FIRST_DELAY_MILLISECONDS << (beyond - 1).min(MAXIMUM_DOUBLINGS),
            _ => 0,
        }
    }

    /// Whether it still counts.
    fn is_fresh(&self, now: u64) -> bool {
        now.saturating_sub(self.last_failure) < FORGOTTEN_MILLISECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: [u16; 3] = [0x6E, 0x61, 0x73];

    #[test]
    fn delays_grow_and_end() {
        let mut back_off = BackOff::new(1);
        for delay in [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000, 4000] {
            assert_eq!(back_off.failed(7, &NAME, 1000), delay);
        }
        assert!(back_off.suspects(7, &NAME, 1000));
        assert!(back_off.suspects(7, &[0x4E, 0x41, 0x53], 1000), "upper case is the same name");
        assert!(!back_off.suspects(8, &NAME, 1000), "another source");
        for _ in 0..1000 {
            back_off.failed(7, &NAME, 1000);
        }
        assert_eq!(back_off.failed(7, &NAME, 1000), 4000);
        back_off.succeeded(7, &NAME);
        assert!(!back_off.suspects(7, &NAME, 1000));
        assert_eq!(back_off.failed(7, &NAME, 1000), 0);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut back_off = BackOff::new(1);
        for _ in 0..20 {
            back_off.failed(7, &NAME, 0);
        }
        assert!(back_off.suspects(7, &NAME, FORGOTTEN_MILLISECONDS - 1));
        assert!(!back_off.suspects(7, &NAME, FORGOTTEN_MILLISECONDS));
        assert_eq!(back_off.failed(7, &NAME, FORGOTTEN_MILLISECONDS), 0);
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
        assert!(back_off.suspects(7, &NAME, 5001));
    }
}
