//! Which clusters are free, in memory.

use alloc::vec::Vec;

use super::VolumeError;

/// Clusters a group: full groups are skipped in a search.
const GROUP: u32 = 4096;

/// One bit a cluster, set while it must not be handed out. Clusters are numbered from 2 on, as on the volume.
pub(crate) struct SpaceMap {
    words: Vec<u32>,
    group_free: Vec<u16>,
    clusters: u32,
    free: u32,
    /// Where the next search without a goal starts (index).
    next: u32,
}

impl SpaceMap {
    /// A map with all of `clusters` taken.
    pub(crate) fn new(clusters: u32) -> Result<Self, VolumeError> {
        let mut map = Self { words: Vec::new(), group_free: Vec::new(), clusters, free: 0, next: 0 };
        let (words, groups) = (clusters.div_ceil(32) as usize, clusters.div_ceil(GROUP) as usize);
        map.words.try_reserve_exact(words).map_err(|_| VolumeError::NoResources)?;
        map.group_free.try_reserve_exact(groups).map_err(|_| VolumeError::NoResources)?;
        map.words.resize(words, u32::MAX);
        map.group_free.resize(groups, 0);
        Ok(map)
    }

    /// A map with all of `clusters` free.
    pub(crate) fn all_free(clusters: u32) -> Result<Self, VolumeError> {
        let mut map = Self::new(clusters)?;
        for word in 0..map.words.len() {
            map.load(word, 0);
        }
        Ok(map)
    }

    /// 32 clusters from index `32 * word` on, as a stored bitmap has them; those behind the last are taken.
    pub(crate) fn word(&self, word: usize) -> u32 {
        self.words.get(word).copied().unwrap_or(u32::MAX)
    }

    /// How many clusters are free.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Whether `cluster` is free.
    pub(crate) fn is_free(&self, cluster: u32) -> bool {
        cluster.checked_sub(2).is_some_and(|index| index < self.clusters && !self.bit(index))
    }

    /// Sets 32 clusters from index `32 * word` on as a stored bitmap has them (bit set: taken).
    pub(crate) fn load(&mut self, word: usize, mut bits: u32) {
        let first = word as u32 * 32;
        if first >= self.clusters {
            return;
        }
        let count = (self.clusters - first).min(32);
        if count < 32 {
            bits |= u32::MAX << count;
        }
        if let Some(place) = self.words.get_mut(word) {
            let (before, after) = (place.count_zeros(), bits.count_zeros());
            *place = bits;
            self.free = self.free - before + after;
            if let Some(group) = self.group_free.get_mut((first / GROUP) as usize) {
                *group = *group - before as u16 + after as u16;
            }
        }
    }

    /// Takes clusters; false (and some are taken) if one was taken already.
    pub(crate) fn take(&mut self, first: u32, count: u32) -> bool {
        self.change(first, count, true)
    }

    /// Frees clusters; false if one was free already.
    pub(crate) fn release(&mut self, first: u32, count: u32) -> bool {
        self.change(first, count, false)
    }

    /// Finds up to `want` free clusters in one run: at `goal` if that is free, else the first place with as many, else
    /// the longest found. They are not taken yet.
    pub(crate) fn find(&mut self, goal: u32, want: u32) -> Option<(u32, u32)> {
        if self.free == 0 || want == 0 {
            return None;
        }
        if self.is_free(goal) {
            return Some((goal, self.run_length(goal - 2, want)));
        }
        let mut best = (0, 0);
        let mut index = if self.next < self.clusters { self.next } else { 0 };
        let mut wrapped = false;
        let mut patience = 1 << 16;
        let stop = index;
        loop {
            match self.next_free(index) {
                Some(found) if !(wrapped && found >= stop) => {
                    let length = self.run_length(found, want);
                    if length >= want {
                        return Some((found + 2, length));
                    }
                    if length > best.1 {
                        best = (found, length);
                    }
                    index = found + length;
                    // Among very many short runs the longest so far has to do.
                    patience -= 1;
                    if patience == 0 {
                        break;
                    }
                }
                _ if wrapped => break,
                _ => {
                    wrapped = true;
                    index = 0;
                }
            }
        }
        // A run across the starting place counts only in part: good enough.
        (best.1 > 0).then_some((best.0 + 2, best.1))
    }

    /// Where the search for new files goes on.
    pub(crate) fn set_next(&mut self, cluster: u32) {
        self.next = cluster.saturating_sub(2);
    }

    fn bit(&self, index: u32) -> bool {
        self.words.get((index / 32) as usize).is_none_or(|word| word >> (index % 32) & 1 != 0)
    }

    fn next_free(&self, mut index: u32) -> Option<u32> {
        while index < self.clusters {
            if index % GROUP == 0 && self.group_free.get((index / GROUP) as usize) == Some(&0) {
                index += GROUP;
                continue;
            }
            let word = !self.words.get((index / 32) as usize)? >> (index % 32);
            if word != 0 {
                let found = index + word.trailing_zeros();
                return (found < self.clusters).then_some(found);
            }
            index = (index / 32 + 1) * 32;
        }
        None
    }

    /// How many clusters from index `index` on are free in a row, at most `limit`.
    pub(crate) fn run_length(&self, index: u32, limit: u32) -> u32 {
        let mut length = 0;
        while length < limit {
            let at = index + length;
            if at >= self.clusters {
                break;
            }
            let Some(word) = self.words.get((at / 32) as usize) else { break };
            let free = (word >> (at % 32) | if at % 32 == 0 { 0 } else { u32::MAX << (32 - at % 32) })
                .trailing_zeros()
                .min(32 - at % 32);
            length += free;
            if free < 32 - at % 32 {
                break;
            }
        }
        length.min(limit).min(self.clusters - index)
    }

    fn change(&mut self, first: u32, count: u32, taken: bool) -> bool {
        let Some(mut index) = first.checked_sub(2) else { return false };
        let Some(end) = index.checked_add(count).filter(|&end| end <= self.clusters) else { return false };
        let mut clean = true;
        while index < end {
            let bits = (32 - index % 32).min(end - index);
            let mask = (u32::MAX >> (32 - bits)) << (index % 32);
            if let Some(word) = self.words.get_mut((index / 32) as usize) {
                let before = word.count_zeros();
                clean &= if taken { *word & mask == 0 } else { *word & mask == mask };
                if taken {
                    *word |= mask;
                } else {
                    *word &= !mask;
                }
                let after = word.count_zeros();
                self.free = self.free - before + after;
                if let Some(group) = self.group_free.get_mut((index / GROUP) as usize) {
                    *group = (u32::from(*group) + after - before) as u16;
                }
            }
            index += bits;
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::Generator;

    #[test]
    fn agrees_with_a_list_of_flags() {
        let mut random = Generator::new(3);
        let clusters = 10_007;
        let mut map = SpaceMap::new(clusters).unwrap();
        let mut model = std::vec![false; clusters as usize];
        for word in 0..clusters.div_ceil(32) {
            map.load(word as usize, 0);
        }
        for _ in 0..20_000 {
            let index = random.below(u64::from(clusters)) as u32;
            let count = (random.below(200) as u32 + 1).min(clusters - index);
            let part = &mut model[index as usize..(index + count) as usize];
            if random.below(2) == 0 {
                assert_eq!(map.take(index + 2, count), part.iter().all(|&taken| !taken));
                part.fill(true);
            } else {
                assert_eq!(map.release(index + 2, count), part.iter().all(|&taken| taken));
                part.fill(false);
            }
            assert_eq!(map.free() as usize, model.iter().filter(|&&taken| !taken).count());
            let want = random.below(300) as u32 + 1;
            map.set_next(random.below(u64::from(clusters) + 10) as u32);
            match map.find(index + 2, want) {
                None => assert_eq!(map.free(), 0),
                Some((first, count)) => {
                    let start = first as usize - 2;
                    assert!(count >= 1 && count <= want);
                    assert!(model[start..start + count as usize].iter().all(|&taken| !taken));
                    if !model[index as usize] {
                        assert_eq!(first, index + 2);
                    }
                    if count < want {
                        assert!(model.get(start + count as usize).is_none_or(|&taken| taken));
                    }
                }
            }
        }
        assert!(!map.take(1, 1) && !map.take(clusters + 2, 1) && !map.is_free(0));
    }
}
