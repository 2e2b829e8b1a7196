//! An open-addressing table from hashes to small numbers; who uses it keeps the keys.

use alloc::vec::Vec;

/// No value: also the mark of an empty place.
pub(crate) const NONE: u32 = u32::MAX;

/// Maps 32-bit hashes to `u32` values (never [`NONE`]), several values a hash allowed. Keys live with the caller, who
/// tells whether a value found is the one meant. Linear probing, removal by shifting back: no tombstones.
pub(crate) struct HashIndex {
    /// (hash, value); a power of two of them, at most 3/4 in use.
    places: Vec<(u32, u32)>,
    used: usize,
}

impl HashIndex {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), used: 0 }
    }

    /// How many values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Removes everything; keeps a small table's memory.
    pub(crate) fn clear(&mut self) {
        if self.places.len() > 64 {
            self.places = Vec::new();
        } else if self.used > 0 {
            self.places.fill((0, NONE));
        }
        self.used = 0;
    }

    /// Bytes of memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.places.len() * size_of::<(u32, u32)>()
    }

    /// The first value under `hash` that `is_it` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.places.len().wrapping_sub(1);
        let mut place = spread(hash) as usize & mask;
        loop {
            let &(its_hash, value) = self.places.get(place)?;
            if value == NONE {
                return None;
            }
            if its_hash == hash && is_it(value) {
                return Some(value);
            }
            place = (place + 1) & mask;
        }
    }

    /// The `number`th value under `hash`, in no particular order: for callers whose test may fail or wait.
    pub(crate) fn nth(&self, hash: u32, number: usize) -> Option<u32> {
        let mut seen = 0;
        self.find(hash, |_| {
            seen += 1;
            seen > number
        })
    }

    /// Adds `value` under `hash`. False when there is no memory for it.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u32, value: u32) -> bool {
        debug_assert_ne!(value, NONE);
        if (self.used + 1) * 4 > self.places.len() * 3 && !self.grow() {
            return false;
        }
        self.place(hash, value);
        self.used += 1;
        true
    }

    /// Takes `value` out from under `hash`, if it is there.
    pub(crate) fn remove(&mut self, hash: u32, value: u32) {
        let Some(mask) = self.places.len().checked_sub(1) else { return };
        let mut hole = spread(hash) as usize & mask;
        loop {
            match self.places[hole] {
                (_, NONE) => return,
                (its_hash, its_value) if its_hash == hash && its_value == value => break,
                _ => hole = (hole + 1) & mask,
            }
        }
        self.used -= 1;
        // Pull up later members of the cluster that would not be found behind the hole.
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let (its_hash, its_value) = self.places[next];
            if its_value == NONE {
                break;
            }
            let home = spread(its_hash) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.places[hole] = (its_hash, its_value);
                hole = next;
            }
        }
        self.places[hole] = (0, NONE);
    }

    fn place(&mut self, hash: u32, value: u32) {
        let mask = self.places.len() - 1;
        let mut place = spread(hash) as usize & mask;
        while self.places[place].1 != NONE {
            place = (place + 1) & mask;
        }
        self.places[place] = (hash, value);
    }

    fn grow(&mut self) -> bool {
        let size = (self.places.len() * 2).max(16);
        let mut places = Vec::new();
        if places.try_reserve_exact(size).is_err() {
            return false;
        }
        places.resize(size, (0, NONE));
        let old = core::mem::replace(&mut self.places, places);
        for (hash, value) in old {
            if value != NONE {
                self.place(hash, value);
            }
        }
        true
    }
}

/// Lets all bits of a hash take part in the place (Fibonacci hashing).
#[inline]
fn spread(hash: u32) -> u32 {
    let product = hash.wrapping_mul(0x9E37_79B1);
    product ^ (product >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::Generator;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_as_a_set_of_pairs() {
        let mut random = Generator::new(1);
        let mut index = HashIndex::new();
        let mut model = BTreeSet::new();
        for _ in 0..20_000 {
            let (hash, value) = (random.below(200) as u32, random.below(8) as u32);
            if random.below(2) == 0 {
                if model.insert((hash, value)) {
                    assert!(index.insert(hash, value));
                }
            } else {
                model.remove(&(hash, value));
                index.remove(hash, value);
            }
            assert_eq!(index.len(), model.len());
            assert_eq!(index.find(hash, |found| found == value).is_some(), model.contains(&(hash, value)));
            let under = model.iter().filter(|pair| pair.0 == hash).count();
            assert!(index.nth(hash, under).is_none());
            assert!(under == 0 || index.nth(hash, under - 1).is_some());
        }
    }
}
