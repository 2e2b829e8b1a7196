//! How large a disk is, and how it is set: READ CAPACITY and MODE SENSE.

use super::operation_code::{MODE_SENSE_6, READ_CAPACITY_10, READ_CAPACITY_16, SERVICE_ACTION_IN_16};
use super::{Disk, DiskError, Transport};

/// Mode pages, and bits of their byte 2.
pub(super) const ERROR_RECOVERY_PAGE: u8 = 0x01;
pub(super) const WRITE_REALLOCATION_ENABLED: u8 = 0x80;
pub(super) const CACHING_PAGE: u8 = 0x08;
pub(super) const WRITE_CACHE_ENABLED: u8 = 0x04;

impl<T: Transport> Disk<T> {
    pub(super) fn capacity(&self) -> Result<(u64, u32), DiskError> {
        let mut answer = [0; 8];
        self.unproved(&[READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut answer)?;
        let [l3, l2, l1, l0, s3, s2, s1, s0] = answer;
        let mut last = u64::from(u32::from_be_bytes([l3, l2, l1, l0]));
        let mut size = u32::from_be_bytes([s3, s2, s1, s0]);
        if last == u64::from(u32::MAX) {
            let mut answer = [0; 32];
            let mut descriptor = [0; 16];
            descriptor[0] = SERVICE_ACTION_IN_16;
            descriptor[1] = READ_CAPACITY_16;
            descriptor[13] = answer.len() as u8;
            self.unproved(&descriptor, &mut answer)?;
            let [n7, n6, n5, n4, n3, n2, n1, n0, s3, s2, s1, s0, ..] = answer;
            last = u64::from_be_bytes([n7, n6, n5, n4, n3, n2, n1, n0]);
            size = u32::from_be_bytes([s3, s2, s1, s0]);
        }
        match size {
            512 | 1024 | 2048 | 4096 => Ok((last.saturating_add(1), size)),
            _ => Err(DiskError::Unsupported),
        }
    }

    /// A bit of byte 2 of a mode page (MODE SENSE); a disk that does not say has it set.
    pub(super) fn mode_bit(&self, page: u8, bit: u8) -> bool {
        const NO_BLOCK_DESCRIPTORS: u8 = 0x08;
        let mut answer = [0u8; 64];
        let length = answer.len() as u8;
        if self.simple(&[MODE_SENSE_6, NO_BLOCK_DESCRIPTORS, page, 0, length, 0], &mut answer).is_err() {
            return true;
        }
        // Header of 4 bytes, whose last is the block descriptors' length; then the page: code, length, flags.
        let start = 4 + usize::from(answer[3]);
        match (answer.get(start), answer.get(start + 2)) {
            (Some(code), Some(flags)) if code & 0x3F == page => flags & bit != 0,
            _ => true,
        }
    }
}
