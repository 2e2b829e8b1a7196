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
        for _ in from..to {
            self.list.remove(from);
        }
        self.list.insert(from, (start, end));
        if self.list.len() > most {
            let gaps = self.list.windows(2).map(|pair| match pair {
                [(_, end), (start, _)] => start - end,
                _ => u64::MAX,
            });
            let nearest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
            if let Some((place, _)) = nearest {
                let (_, end) = self.list.remove(place + 1);
                if let Some(range) = self.list.get_mut(place) {
                    range.1 = end;
                }
            }
        }
    }

    /// Whether byte `position` is in one of the ranges, and up to where what follows it is too, or is not.
    pub(super) fn at(&self, position: u64) -> (bool, u64) {
        let next = self.list.partition_point(|range| range.1 <= position);
        match self.list.get(next) {
            Some(&(start, end)) if start <= position => (true, end),
            Some(&(start, _)) => (false, start),
            None => (false, u64::MAX),
        }
    }

    /// Whether bytes `start..end` overlap or touch one of the ranges.
    pub(super) fn touches(&self, start: u64, end: u64) -> bool {
        let next = self.list.partition_point(|range| range.1 < start);
        self.list.get(next).is_some_and(|range| range.0 <= end)
    }

    /// Takes away all that lies at or behind `end`.
    pub(super) fn cut(&mut self, end: u64) {
        while self.list.last().is_some_and(|range| range.0 >= end) {
            self.list.pop();
        }
        if let Some(last) = self.list.last_mut() {
            last.1 = last.1.min(end);
        }
    }

    /// Takes out the ranges that begin at or before `position`, and says how far they reach from there.
    pub(super) fn absorb(&mut self, position: u64) -> u64 {
        let mut reached = position;
        while self.list.first().is_some_and(|range| range.0 <= position) {
            reached = reached.max(self.list.remove(0).1);
        }
        reached
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
                    let (covered, until) = ranges.at(byte as u64);
                    assert_eq!(covered, has(byte as u64));
                    assert!((byte as u64..until.min(600)).all(|byte| has(byte) == covered));
                    assert!(until == u64::MAX || has(until) != covered);
                }
                let touches =
                    |start: u64, end: u64| list.iter().any(|range| range.0 <= end && range.1 >= start);
                assert_eq!(ranges.touches(start as u64, end as u64), touches(start as u64, end as u64));
                let place = random.below(600);
                let (mut cut, mut absorbed) = (ranges.clone(), ranges.clone());
                cut.cut(place);
                let reached = absorbed.absorb(place);
                assert!((0..600).all(|byte| cut.at(byte).0 == (has(byte) && byte < place)));
                assert!((0..600).all(|byte| absorbed.at(byte).0 == (has(byte) && byte >= reached)));
                assert!(reached >= place && (place + 1..reached).all(has));
                assert!(absorbed.as_slice().first().is_none_or(|range| range.0 > place));
            }
        }
    }
}
