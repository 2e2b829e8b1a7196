//! Sets of byte ranges, kept short by covering more than was asked for.

use alloc::vec::Vec;

/// Byte ranges in rising order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    list: Vec<(u64, u64)>,
}

impl Ranges {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new() }
    }

    pub(super) fn as_slice(&self) -> &[(u64, u64)] {
        &self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds bytes `start..end`. When there are more than `most` ranges, the two with the least between them become one.
    pub(super) fn add(&mut self, start: u64, end: u64, most: usize) {
        if start >= end {
            return;
        }
        let from = self.list.partition_point(|range| range.1 < start);
        let to = self.list.partition_point(|range| range.0 <= end);
        let merged = self.list.get(from..to).unwrap_or_default();
        let start = merged.first().map_or(start, |range| range.0.min(start));
        let end = merged.last().map_or(end, |range| range.1.max(end));
        self.list.splice(from..to, [(start, end)]);
        if self.list.len() > most {
            let gaps = self.list.windows(2).map(|pair| match pair {
                [(_, end), (start, _)] => start - end,
                _ => u64::MAX,
            });
            let nearest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
            if let Some((place, _)) = nearest
                && let Some(&[(start, _), (_, end)]) = self.list.get(place..place + 2)
            {
                self.list.splice(place..place + 2, [(start, end)]);
            }
        }
    }

    /// Adds all of another set.
    pub(super) fn add_all(&mut self, other: &Self, most: usize) {
        for &(start, end) in &other.list {
            self.add(start, end, most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::Generator;

    #[test]
    fn they_cover_what_was_added_and_with_room_nothing_else() {
        let mut random = Generator::new(3);
        for most in [4, 1000] {
            let (mut ranges, mut model) = (Ranges::new(), [false; 600]);
            for _ in 0..60 {
                let start = random.below(500) as usize;
                let end = start + random.below(20) as usize;
                ranges.add(start as u64, end as u64, most);
                model[start..end].fill(true);
                let list = ranges.as_slice();
                assert!(list.len() <= most && list.is_sorted());
                assert!(list.windows(2).all(|pair| pair[0].1 < pair[1].0));
                let has = |byte: u64| list.iter().any(|&(start, end)| (start..end).contains(&byte));
                for (byte, &added) in model.iter().enumerate() {
                    assert!(if most > 100 { has(byte as u64) == added } else { !added || has(byte as u64) });
                }
            }
        }
    }
}
