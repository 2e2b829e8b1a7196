//! What a disk is to this crate.

use alloc::sync::Arc;

/// What a device is told to do.
pub enum Command<'a, 'b> {
    /// Fill `buffers`, in order, from the blocks starting at `block`. Together they hold whole blocks.
    Read {
        /// The first block.
        block: u64,
        /// Where the bytes go.
        buffers: &'a mut [&'b mut [u8]],
    },
    /// Write `buffers`, in order, to the blocks starting at `block`. Together they hold whole blocks. The data may be
    /// in the device's volatile cache afterwards.
    Write {
        /// The first block.
        block: u64,
        /// Where the bytes are.
        buffers: &'a [&'b [u8]],
    },
    /// Make everything that was written before survive a power cut (SYNCHRONIZE CACHE).
    Flush,
}

impl Command<'_, '_> {
    /// The first block and how many bytes are moved; `None` for a flush.
    pub fn range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Read { block, buffers } => {
                Some((*block, buffers.iter().map(|buffer| buffer.len() as u64).sum()))
            }
            Self::Write { block, buffers } => {
                Some((*block, buffers.iter().map(|buffer| buffer.len() as u64).sum()))
            }
            Self::Flush => None,
        }
    }
}

/// A disk, or a part of one, addressed in blocks.
///
/// Calls block the calling thread until the device has answered. Several threads may call at once, and one thread may
/// have several commands in flight: see [`execute`](Self::execute).
pub trait BlockDevice: Send + Sync {
    /// How many blocks there are.
    fn blocks(&self) -> u64;

    /// Bytes a block: a power of two from 512 to 4096.
    fn block_size(&self) -> u32;

    /// Carries out `command` and returns when it has ended.
    ///
    /// `meanwhile` is called exactly once, whatever becomes of the command; a device that can do so calls it while the
    /// command is in flight, and begins others there, of its own or of another device. So a device holds no lock while
    /// it calls `meanwhile` that it takes for a command. Nothing is promised about the order of commands in flight
    /// together; a flush covers those that had ended before it began.
    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError>;

    /// [`Command::Read`] alone.
    fn read(&self, block: u64, buffers: &mut [&mut [u8]]) -> Result<(), DeviceError> {
        self.execute(Command::Read { block, buffers }, &mut || ())
    }

    /// [`Command::Write`] alone.
    fn write(&self, block: u64, buffers: &[&[u8]]) -> Result<(), DeviceError> {
        self.execute(Command::Write { block, buffers }, &mut || ())
    }

    /// [`Command::Flush`] alone.
    fn flush(&self) -> Result<(), DeviceError> {
        self.execute(Command::Flush, &mut || ())
    }
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

    fn execute(&self, mut command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        if let Some((block, bytes)) = command.range() {
            let place = match self.translate(block, bytes) {
                Ok(place) => place,
                Err(error) => {
                    meanwhile();
                    return Err(error);
                }
            };
            if let Command::Read { block, .. } | Command::Write { block, .. } = &mut command {
                *block = place;
            }
        }
        self.device.execute(command, meanwhile)
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
