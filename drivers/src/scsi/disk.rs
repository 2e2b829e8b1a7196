//! A SCSI disk: block commands (SBC) with retries and typed errors, and the scan for disks on a channel.

mod error;
mod execution;
mod inquiry;
mod operation_code;
mod parameters;
mod recovery;
mod transfer;
mod transport;

pub use error::DiskError;
pub use inquiry::{Identity, scan};
pub use transport::{Data, Request, Transport};

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use execution::{MAXIMUM_DEPTH, TIMEOUT_FLUSH};
use inquiry::inquire;
use operation_code::{SYNCHRONIZE_CACHE_10, TEST_UNIT_READY};
use parameters::{CACHING_PAGE, ERROR_RECOVERY_PAGE, WRITE_CACHE_ENABLED, WRITE_REALLOCATION_ENABLED};
use recovery::Doubt;
use transfer::{MAXIMUM_PIECES, MAXIMUM_TRANSFER};
use transport::run_now;

/// One disk.
#[derive(Debug)]
pub struct Disk<T> {
    transport: T,
    target: u8,
    identity: Identity,
    blocks: u64,
    block_size: u32,
    write_cache: bool,
    /// The disk puts blocks that it cannot write somewhere else by itself.
    reallocates: bool,
    /// Commands on their way to the disk, and how many it takes at once, as far as it has said so.
    in_flight: AtomicU32,
    depth: AtomicU32,
    /// Commands since that number changed.
    calm: AtomicU32,
    doubt: Doubt,
    /// Something was written since the last flush began.
    unflushed: AtomicBool,
}

impl<T: Transport> Disk<T> {
    /// Finds out what the disk is. Waits until it is ready.
    pub fn attach(transport: T, target: u8) -> Result<Self, DiskError> {
        let identity = inquire(&transport, target)?;
        let mut disk = Disk {
            transport,
            target,
            identity,
            blocks: 0,
            block_size: 0,
            write_cache: false,
            reallocates: true,
            in_flight: AtomicU32::new(0),
            depth: AtomicU32::new(MAXIMUM_DEPTH),
            calm: AtomicU32::new(0),
            doubt: Doubt::default(),
            unflushed: AtomicBool::new(false),
        };
        disk.simple(&[TEST_UNIT_READY, 0, 0, 0, 0, 0], &mut [])?;
        (disk.blocks, disk.block_size) = disk.capacity()?;
        disk.write_cache = disk.mode_bit(CACHING_PAGE, WRITE_CACHE_ENABLED);
        disk.reallocates = disk.mode_bit(ERROR_RECOVERY_PAGE, WRITE_REALLOCATION_ENABLED);
        disk.doubt = Doubt::default();
        Ok(disk)
    }

    /// Its identity on the channel.
    pub fn target(&self) -> u8 {
        self.target
    }

    /// Who made it and so on.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of a block: 512, 1024, 2048 or 4096.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Whether it acknowledges writes before they are on the medium, so that [`flush`](Self::flush) matters.
    pub fn write_cache(&self) -> bool {
        self.write_cache
    }

    /// Reads blocks from `block` on into `buffers`, which are a whole number of blocks together. `meanwhile` runs once,
    /// while the command is in flight or where there is none.
    pub fn read(
        &self,
        block: u64,
        buffers: &mut [&mut [u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DiskError> {
        let mut meanwhile = Some(meanwhile);
        let total = self.check(block, buffers.iter().map(|piece| piece.len() as u64).sum());
        let result = total.and_then(|total| {
            if total <= MAXIMUM_TRANSFER && buffers.len() <= MAXIMUM_PIECES {
                return self.transfer(block, total, Data::FromTarget(buffers), &mut meanwhile);
            }
            let pieces = buffers.iter_mut().map(|piece| &mut **piece);
            self.in_parts(block, pieces, |block, bytes, part| {
                self.transfer(block, bytes, Data::FromTarget(part), &mut meanwhile)
            })
        });
        run_now(&mut meanwhile);
        result
    }

    /// Writes blocks from `block` on out of `buffers`; as [`read`](Self::read).
    pub fn write(&self, block: u64, buffers: &[&[u8]], meanwhile: &mut dyn FnMut()) -> Result<(), DiskError> {
        self.unflushed.store(true, Ordering::Relaxed);
        let mut meanwhile = Some(meanwhile);
        let total = self.check(block, buffers.iter().map(|piece| piece.len() as u64).sum());
        let result = total.and_then(|total| {
            if total <= MAXIMUM_TRANSFER && buffers.len() <= MAXIMUM_PIECES {
                return self.rewrite(block, total, buffers, &mut meanwhile);
            }
            self.in_parts(block, buffers.iter().copied(), |block, bytes, part| {
                self.rewrite(block, bytes, part, &mut meanwhile)
            })
        });
        run_now(&mut meanwhile);
        result
    }
    /// Makes everything written so far lie on the medium (SYNCHRONIZE CACHE); `meanwhile` as in [`read`](Self::read).
    pub fn flush(&self, meanwhile: &mut dyn FnMut()) -> Result<(), DiskError> {
        let descriptor = [SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut meanwhile = Some(meanwhile);
        let unflushed = self.unflushed.swap(false, Ordering::Relaxed);
        let result = self.run(&descriptor, &mut Data::None, TIMEOUT_FLUSH, &mut meanwhile);
        run_now(&mut meanwhile);
        let restarted = self.doubt.restarted.swap(false, Ordering::AcqRel) && self.write_cache;
        match result {
            Ok(_) if restarted && unflushed => Err(DiskError::Restarted),
            // A disk without a cache need not know the command.
            Ok(_) | Err(DiskError::Unsupported) => Ok(()),
            Err(error) => {
                self.unflushed.fetch_or(unflushed, Ordering::Relaxed);
                self.doubt.restarted.fetch_or(restarted, Ordering::AcqRel);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
