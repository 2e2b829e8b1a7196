//! Which clusters a file has, as runs.

use alloc::vec::Vec;

/// Clusters that follow each other, on disk and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first one's number in the file.
    pub(crate) index: u32,
    /// The first one's number on the volume.
    pub(crate) cluster: u32,
    pub(crate) count: u32,
}

/// The runs of a file in order: finding a place in it takes the logarithm of their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    runs: Vec<Run>,
}

impl Extents {
    pub(crate) const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many clusters there are.
    pub(crate) fn clusters(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.index.saturating_add(run.count))
    }

    /// The first cluster; 0 if there is none.
    pub(crate) fn first(&self) -> u32 {
        self.runs.first().map_or(0, |run| run.cluster)
    }

    /// The last cluster; 0 if there is none.
    pub(crate) fn last(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.cluster + (run.count - 1))
    }

    /// Whether the first `clusters` clusters are one run.
    pub(crate) fn is_contiguous(&self, clusters: u32) -> bool {
        self.runs.first().is_none_or(|run| run.count >= clusters)
    }

    /// The cluster with number `index` in the file, and how many follow it in one run (it included).
    #[inline]
    pub(crate) fn locate(&self, index: u32) -> Option<(u32, u32)> {
        let place = self.runs.partition_point(|run| run.index <= index).checked_sub(1)?;
        let run = self.runs.get(place)?;
        let within = index - run.index;
        (within < run.count).then(|| (run.cluster + within, run.count - within))
    }

    /// Adds clusters at the end. False when the file would have too many or memory is out.
    #[must_use]
    pub(crate) fn push(&mut self, cluster: u32, count: u32) -> bool {
        let index = self.clusters();
        if index.checked_add(count).is_none() {
            return false;
        }
        if let Some(last) = self.runs.last_mut()
            && last.cluster + last.count == cluster
        {
            last.count += count;
            return true;
        }
        if self.runs.try_reserve(1).is_err() {
            return false;
        }
        self.runs.push(Run { index, cluster, count });
        true
    }

    /// Keeps the first `clusters` clusters, giving the others to `cut` as (first, count).
    pub(crate) fn truncate(&mut self, clusters: u32, mut cut: impl FnMut(u32, u32)) {
        while let Some(last) = self.runs.last_mut() {
            if last.index >= clusters {
                cut(last.cluster, last.count);
                self.runs.pop();
                continue;
            }
            let keep = clusters - last.index;
            if keep < last.count {
                cut(last.cluster + keep, last.count - keep);
                last.count = keep;
            }
            break;
        }
    }

    /// Visits the clusters with numbers `from..to` in the file as (first, count).
    pub(crate) fn for_each(&self, from: u32, to: u32, mut visit: impl FnMut(u32, u32)) {
        let mut index = from;
        while index < to {
            let Some((cluster, count)) = self.locate(index) else { return };
            let count = count.min(to - index);
            visit(cluster, count);
            index += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_places_and_cuts() {
        let mut extents = Extents::new();
        assert!(extents.push(10, 5) && extents.push(15, 1) && extents.push(100, 4));
        assert_eq!(extents.runs().len(), 2);
        assert_eq!(extents.locate(0), Some((10, 6)));
        assert_eq!(extents.locate(5), Some((15, 1)));
        assert_eq!(extents.locate(7), Some((101, 3)));
        assert_eq!(extents.locate(10), None);
        assert_eq!((extents.clusters(), extents.first(), extents.last()), (10, 10, 103));
        let mut seen = Vec::new();
        extents.for_each(4, 8, |cluster, count| seen.push((cluster, count)));
        assert_eq!(seen, [(14, 2), (100, 2)]);
        seen.clear();
        extents.truncate(3, |cluster, count| seen.push((cluster, count)));
        assert_eq!(seen, [(100, 4), (13, 3)]);
        assert_eq!(extents.clusters(), 3);
        extents.truncate(0, |_, _| ());
        assert_eq!((extents.clusters(), extents.first()), (0, 0));
    }
}
