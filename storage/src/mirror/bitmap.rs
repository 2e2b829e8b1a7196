//! A bit for each region of an array.

use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a bitmap.
pub(super) const BYTES: usize = 4096;
/// Regions there can be.
pub(super) const BITS: u64 = BYTES as u64 * 8;

/// One bit for each region, the lowest bit of a byte first, as on the disks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bitmap(Vec<u8>);

impl Bitmap {
    pub(super) fn empty() -> Self {
        Self(vec![0; BYTES])
    }

    /// The bits of the first `regions` regions.
    pub(super) fn full(regions: u32) -> Self {
        let mut bitmap = Self(vec![0xFF; BYTES]);
        bitmap.cut(regions);
        bitmap
    }

    /// As it was read: [`BYTES`] bytes, of which bits behind the last region mean nothing.
    pub(super) fn from_bytes(bytes: Vec<u8>, regions: u32) -> Self {
        let mut bitmap = Self(bytes);
        bitmap.cut(regions);
        bitmap
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn cut(&mut self, regions: u32) {
        for (number, bits) in self.0.iter_mut().enumerate() {
            let left = (regions as usize).saturating_sub(number * 8).min(8);
            *bits &= (0xFFu16 >> (8 - left)) as u8;
        }
    }

    pub(super) fn has(&self, region: u64) -> bool {
        self.0.get((region / 8) as usize).is_some_and(|bits| bits >> (region % 8) & 1 != 0)
    }

    /// Whether all of `from..to` are set.
    pub(super) fn has_all(&self, from: u64, to: u64) -> bool {
        (from..to).all(|region| self.has(region))
    }

    /// Whether any of `from..to` is set.
    pub(super) fn has_any(&self, from: u64, to: u64) -> bool {
        (from..to).any(|region| self.has(region))
    }

    pub(super) fn set(&mut self, from: u64, to: u64) {
        for region in from..to {
            if let Some(bits) = self.0.get_mut((region / 8) as usize) {
                *bits |= 1 << (region % 8);
            }
        }
    }

    pub(super) fn clear(&mut self, from: u64, to: u64) {
        for region in from..to {
            if let Some(bits) = self.0.get_mut((region / 8) as usize) {
                *bits &= !(1 << (region % 8));
            }
        }
    }

    pub(super) fn clear_all(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&bits| bits == 0)
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }

    /// The first region from `region` on whose bit is set.
    pub(super) fn next(&self, region: u64) -> Option<u64> {
        let start = (region / 8) as usize;
        for (number, &bits) in self.0.iter().enumerate().skip(start) {
            let bits = if number == start { bits & (0xFFu16 << (region % 8)) as u8 } else { bits };
            if bits != 0 {
                return Some(number as u64 * 8 + u64::from(bits.trailing_zeros()));
            }
        }
        None
    }

    /// Adds the bits of `other`.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, more)| *bits |= more);
    }

    /// Takes the bits of `other` away.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, less)| *bits &= !less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_counted_and_cut() {
        let mut bitmap = Bitmap::empty();
        assert_eq!(bitmap.next(0), None);
        bitmap.set(7, 10);
        bitmap.set(BITS - 1, BITS + 5);
        assert_eq!(
            (bitmap.count(), bitmap.next(0), bitmap.next(8), bitmap.next(10)),
            (4, Some(7), Some(8), Some(BITS - 1))
        );
        assert!(
            bitmap.has_all(7, 10)
                && !bitmap.has_all(6, 8)
                && bitmap.has_any(9, 20)
                && !bitmap.has_any(10, 20)
        );
        bitmap.clear(8, 9);
        let cut = Bitmap::from_bytes(bitmap.bytes().to_vec(), 9);
        assert_eq!((cut.count(), cut.next(0)), (1, Some(7)));
        let mut rest = Bitmap::full(12);
        assert_eq!(rest.count(), 12);
        rest.subtract(&bitmap);
        assert_eq!(rest.count(), 10);
        rest.add(&bitmap);
        assert_eq!(rest.count(), 13);
        rest.clear_all();
        assert!(rest.is_empty());
    }
}
