//! An array whose disks were both replaced by larger ones takes their room.
//!
//! The size of the data partition decides what the bitmap's bits stand for, and each disk has a partition table of its own: a
//! power cut between them leaves disks that are divided differently. So the array changes its size only while nothing is
//! marked and both disks are good, and [`assemble`](Mirror::assemble) or [`replace`](Mirror::replace) lets the other disk follow
//! the one that counts.

use lock_api::RawMutex;

use super::bitmap::Bitmap;
use super::{Member, Mirror, MirrorError, Place, wait};
use crate::BlockDevice;
use crate::partition::{move_end, usable_end};

impl<R: RawMutex> Mirror<R> {
    /// Lets the data partition reach to the end of the smaller disk, on both. False: it does already. Else the array has
    /// let go of its disks, whatever became of it, and is to be [assembled](Self::assemble) anew. No volume of it is in
    /// use, and [`maintain`](Self::maintain) was called until nothing is marked any more.
    ///
    /// What is in the new room on one disk may not be there on the other: [`scrub`](Self::scrub) makes it equal.
    pub fn enlarge(&self) -> Result<bool, MirrorError> {
        let (records, disks, data) = loop {
            let records = self.records.lock();
            let mut state = self.state.lock();
            if let Some(ticket) = state.overlapping((0, u64::MAX), false) {
                drop(state);
                drop(records);
                wait(&ticket);
                continue;
            }
            let [Some(one), Some(two)] = state.disks.clone() else { return Err(MirrorError::Incomplete) };
            if state.members != [Member::Good; 2] || !state.bitmap.is_empty() {
                return Err(MirrorError::Incomplete);
            }
            let end = |disk: &dyn BlockDevice| usable_end(disk.blocks(), self.place.block_size);
            let (first, blocks) = self.place.data;
            let data = (first, end(&*one).min(end(&*two)).saturating_sub(first));
            if data.1 <= blocks {
                return Ok(false);
            }
            state.scrub = None;
            state.closing = true;
            // Rounded down: what is equal already costs a look.
            let fresh = u32::try_from((self.place.end() - self.place.first()) >> 20).unwrap_or(u32::MAX);
            state.fresh = if state.fresh == 0 { fresh } else { state.fresh.min(fresh) };
            break (records, [one, two], data);
        };
        // Bits that were cleared may be there still; soon they would stand for other regions.
        self.write_bitmap(&records, &Bitmap::empty(), true)?;
        self.record(&records)?;
        drop(records);
        let is_good = self.state.lock().members == [Member::Good; 2];
        self.release();
        if !is_good {
            return Err(MirrorError::Incomplete);
        }
        let place = Place { data, ..self.place };
        for disk in &disks {
            set_end(&**disk, &place)?;
        }
        Ok(true)
    }
}

/// Gives a disk's data partition the end that it has in `place`.
pub(super) fn set_end(disk: &dyn BlockDevice, place: &Place) -> Result<(), MirrorError> {
    match move_end(disk, place.data.0, place.data.0 + place.data.1) {
        Ok(true) => Ok(()),
        Ok(false) => Err(MirrorError::Layout),
        Err(error) => Err(MirrorError::Device(error)),
    }
}
