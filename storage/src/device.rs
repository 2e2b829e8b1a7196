//! What a disk is to this crate.

use alloc::sync::Arc;

/// A disk, or a part of one, addressed in blocks.
///
/// Calls block the calling thread until the device has answered. Several threads may call at once: a device that can
/// keep several commands in flight does.
pub trait BlockDevice: Send + Sync {
    /// How many blocks there are.
    fn blocks(&self) -> u64;

    /// Bytes a block: a power of two from 512 to 4096.
    fn block_size(&self) -> u32;

    /// Fills `buffers`, in order, from the blocks starting at `block`. Together they hold whole blocks.
    fn read(&self, block: u64, buffers: &mut [&mut [u8]]) -> Result<(), DeviceError>;

    /// Writes `buffers`, in order, to the blocks starting at `block`. Together they hold whole blocks.
    /// The data may be in the device's volatile cache when this returns: see [`flush`](Self::flush).
    fn write(&self, block: u64, buffers: &[&[u8]]) -> Result<(), DeviceError>;

    /// When this returns, everything written before survives a power cut (SYNCHRONIZE CACHE).
    fn flush(&self) -> Result<(), DeviceError>;
}

/// Why a device did not do as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The blocks asked for are not all on the device.
    OutOfRange,
    /// The buffers do not add up to whole blocks.
    Misaligned,
    /// These blocks cannot be read or written; others may.
    Medium,
    /// The device takes no writes.
    WriteProtected,
    /// No answer in time, in spite of aborts and resets.
    TimedOut,
    /// The device does not exist any more.
    Gone,
    /// Another failure, after the retries that make sense.
    Failed,
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::OutOfRange => "blocks beyond the end of the device",
            Self::Misaligned => "not a whole number of blocks",
            Self::Medium => "medium error",
            Self::WriteProtected => "write-protected",
            Self::TimedOut => "timed out",
            Self::Gone => "device is gone",
            Self::Failed => "device failed",
        })
    }
}

impl core::error::Error for DeviceError {}

/// A contiguous part of another device: a partition.
pub struct Slice {
    device: Arc<dyn BlockDevice>,
    first: u64,
    blocks: u64,
}

impl Slice {
    /// `blocks` blocks of `device` from `first` on; `None` when they are not all on the device.
    pub fn new(device: Arc<dyn BlockDevice>, first: u64, blocks: u64) -> Option<Self> {
        if first.checked_add(blocks)? > device.blocks() {
            return None;
        }
        Some(Self { device, first, blocks })
    }

    fn translate(&self, block: u64, bytes: u64) -> Result<u64, DeviceError> {
        let count = bytes / u64::from(self.block_size());
        match block.checked_add(count) {
            Some(end) if end <= self.blocks => Ok(self.first + block),
            _ => Err(DeviceError::OutOfRange),
        }
    }
}

impl BlockDevice for Slice {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn block_size(&self) -> u32 {
        self.device.block_size()
    }

    fn read(&self, block: u64, buffers: &mut [&mut [u8]]) -> Result<(), DeviceError> {
        let bytes = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        self.device.read(self.translate(block, bytes)?, buffers)
    }

    fn write(&self, block: u64, buffers: &[&[u8]]) -> Result<(), DeviceError> {
        let bytes = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        self.device.write(self.translate(block, bytes)?, buffers)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.device.flush()
    }
}

/// Reads `bytes.len()` bytes at byte `offset`, both multiples of the block size.
pub(crate) fn read_bytes(device: &dyn BlockDevice, offset: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
    let size = u64::from(device.block_size());
    if offset % size != 0 || bytes.len() as u64 % size != 0 {
        return Err(DeviceError::Misaligned);
    }
    device.read(offset / size, &mut [bytes])
}

/// Writes `bytes` at byte `offset`, both multiples of the block size.
pub(crate) fn write_bytes(device: &dyn BlockDevice, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
    let size = u64::from(device.block_size());
    if offset % size != 0 || bytes.len() as u64 % size != 0 {
        return Err(DeviceError::Misaligned);
    }
    device.write(offset / size, &[bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::RamDisk;

    #[test]
    fn a_slice_stays_within_its_bounds() {
        let disk: Arc<dyn BlockDevice> = Arc::new(RamDisk::new(100, 512));
        let slice = Slice::new(disk.clone(), 10, 20).unwrap();
        slice.write(19, &[&[7; 512]]).unwrap();
        assert_eq!(slice.write(19, &[&[7; 1024]]), Err(DeviceError::OutOfRange));
        let mut block = [0; 512];
        disk.read(29, &mut [&mut block]).unwrap();
        assert_eq!(block, [7; 512]);
        assert!(Slice::new(disk, 90, 11).is_none());
    }
}
