//! The metadata changes of one operation: sector images that take effect together.
//!
//! An operation edits images only; the cache sees nothing before [`Transaction::images`] are handed over as a whole. So
//! an operation that fails half-way leaves no trace, and the set of images is what a journal writes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use lock_api::RawMutex;

use crate::cache::{Cache, CacheError, DeviceIndex, SECTOR_SIZE};
use crate::hash_index::HashIndex;

const SECTOR: u64 = SECTOR_SIZE as u64;

/// One sector as it shall be.
pub(crate) struct Image {
    /// Number of the sector on the volume, in units of 512 bytes.
    pub(crate) sector: u64,
    pub(crate) bytes: Box<[u8; SECTOR_SIZE]>,
}

/// The sectors that an operation changes.
pub(crate) struct Transaction {
    images: Vec<Image>,
    index: HashIndex,
    /// Memory for images to come.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<[u8; SECTOR_SIZE]>>,
    last: usize,
}

impl Transaction {
    pub(crate) const fn new() -> Self {
        Self { images: Vec::new(), index: HashIndex::new(), spare: Vec::new(), last: 0 }
    }

    /// Nothing was changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The sectors changed so far.
    pub(crate) fn images(&self) -> &[Image] {
        &self.images
    }

    /// Forgets all changes.
    pub(crate) fn clear(&mut self) {
        for image in self.images.drain(..) {
            if self.spare.len() < 32 {
                self.spare.push(image.bytes);
            }
        }
        self.index.clear();
        self.last = 0;
    }

    /// The image of a sector, read if it is not there yet.
    pub(crate) fn sector<R: RawMutex>(
        &mut self,
        cache: &Cache<R>,
        device: DeviceIndex,
        sector: u64,
    ) -> Result<&mut [u8; SECTOR_SIZE], CacheError> {
        let place = match self.find(sector) {
            Some(place) => place,
            None => {
                let mut bytes = self.spare.pop().unwrap_or_else(|| Box::new([0; SECTOR_SIZE]));
                cache.inspect(device, sector * SECTOR, SECTOR_SIZE, |now| bytes.copy_from_slice(now))?;
                let place = self.images.len();
                if !self.index.insert(sector as u32, place as u32) {
                    return Err(CacheError::NoResources);
                }
                self.images.push(Image { sector, bytes });
                place
            }
        };
        self.last = place;
        self.images.get_mut(place).map(|image| &mut *image.bytes).ok_or(CacheError::NoResources)
    }

    /// Changes bytes anywhere.
    pub(crate) fn write<R: RawMutex>(
        &mut self,
        cache: &Cache<R>,
        device: DeviceIndex,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), CacheError> {
        while !bytes.is_empty() {
            let within = (offset % SECTOR) as usize;
            let length = bytes.len().min(SECTOR_SIZE - within);
            let image = self.sector(cache, device, offset / SECTOR)?;
            let (now, later) = bytes.split_at(length);
            if let Some(place) = image.get_mut(within..within + length) {
                place.copy_from_slice(now);
            }
            bytes = later;
            offset += length as u64;
        }
        Ok(())
    }

    /// Reads bytes as they are with the changes so far.
    pub(crate) fn read<R: RawMutex>(
        &self,
        cache: &Cache<R>,
        device: DeviceIndex,
        mut offset: u64,
        mut bytes: &mut [u8],
    ) -> Result<(), CacheError> {
        while !bytes.is_empty() {
            let within = (offset % SECTOR) as usize;
            let length = bytes.len().min(SECTOR_SIZE - within);
            let (now, later) = bytes.split_at_mut(length);
            match self.find(offset / SECTOR).and_then(|place| self.images.get(place)) {
                Some(image) => now.copy_from_slice(image.bytes.get(within..within + length).unwrap_or(&[])),
                None => cache.inspect(device, offset, length, |content| now.copy_from_slice(content))?,
            }
            bytes = later;
            offset += length as u64;
        }
        Ok(())
    }

    fn find(&self, sector: u64) -> Option<usize> {
        if self.images.get(self.last).is_some_and(|image| image.sector == sector) {
            return Some(self.last);
        }
        let is_it = |place: u32| self.images.get(place as usize).is_some_and(|image| image.sector == sector);
        self.index.find(sector as u32, is_it).map(|place| place as usize)
    }
}
