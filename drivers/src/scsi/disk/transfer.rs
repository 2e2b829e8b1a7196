//! Reads and writes of any length as commands that a disk takes.

use super::execution::{TIMEOUT_FLUSH, TIMEOUT_TRANSFER};
use super::operation_code::{READ_10, READ_16, REASSIGN_BLOCKS, WRITE_10, WRITE_16};
use super::transport::Meanwhile;
use super::{Data, Disk, DiskError, Transport};
use alloc::vec::Vec;

/// The most data of one command, in bytes.
pub(super) const MAXIMUM_TRANSFER: u64 = 1 << 20;
/// The most pieces of memory of one command.
pub(super) const MAXIMUM_PIECES: usize = 256;
/// Bad blocks of one write that are put somewhere else.
const MAXIMUM_REASSIGNED: u32 = 8;
/// REASSIGN BLOCKS: the list has addresses of 8 bytes.
const LONG_ADDRESSES: u8 = 0x02;

/// A piece of a transfer's memory, which can be cut in two.
pub(super) trait Piece: Sized {
    fn length(&self) -> usize;
    fn cut(self, at: usize) -> (Self, Self);
}

impl Piece for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn cut(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl Piece for &mut [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn cut(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

impl<T: Transport> Disk<T> {
    /// Runs `transfer` with block, bytes and pieces for one part after the other of a transfer that is more than one
    /// command can do.
    pub(super) fn in_parts<P: Piece>(
        &self,
        mut block: u64,
        mut pieces: impl Iterator<Item = P>,
        mut transfer: impl FnMut(u64, u64, &mut [P]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut rest: Option<P> = None;
        let mut part: Vec<P> = Vec::with_capacity(MAXIMUM_PIECES);
        loop {
            let mut bytes = 0;
            part.clear();
            while part.len() < MAXIMUM_PIECES && bytes < MAXIMUM_TRANSFER {
                let Some(piece) = rest.take().or_else(|| pieces.next()) else { break };
                let length = piece.length();
                if length == 0 {
                    continue;
                }
                let take = length.min((MAXIMUM_TRANSFER - bytes) as usize);
                let take = self.cut(bytes, take, part.len())?;
                let (head, tail) = piece.cut(take);
                if take < length {
                    rest = Some(tail);
                }
                part.push(head);
                bytes += take as u64;
            }
            if bytes == 0 {
                return Ok(());
            }
            transfer(block, bytes, &mut part)?;
            block += bytes / u64::from(self.block_size);
        }
    }

    /// The bytes to take of a piece when `bytes` are taken already: the last piece of a command ends on a block.
    fn cut(&self, bytes: u64, take: usize, pieces: usize) -> Result<usize, DiskError> {
        let surplus = (bytes + take as u64) % u64::from(self.block_size);
        if pieces + 1 < MAXIMUM_PIECES || surplus == 0 {
            return Ok(take);
        }
        match take.checked_sub(surplus as usize) {
            Some(left) if left > 0 => Ok(left),
            _ => Err(DiskError::Unsupported),
        }
    }

    /// Checks a range, returns its length.
    pub(super) fn check(&self, block: u64, bytes: u64) -> Result<u64, DiskError> {
        let size = u64::from(self.block_size);
        if !bytes.is_multiple_of(size) {
            return Err(DiskError::Unsupported);
        }
        match block.checked_add(bytes / size) {
            Some(end) if end <= self.blocks => Ok(bytes),
            _ => Err(DiskError::OutOfRange),
        }
    }

    /// Writes; blocks that the disk can neither write nor put somewhere else by itself, it is told to (SBC, REASSIGN
    /// BLOCKS).
    pub(super) fn rewrite(
        &self,
        block: u64,
        bytes: u64,
        pieces: &[&[u8]],
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), DiskError> {
        let mut result = self.transfer(block, bytes, Data::ToTarget(pieces), meanwhile);
        for _ in 0..MAXIMUM_REASSIGNED {
            let Err(DiskError::Medium { block: Some(bad) }) = result else { break };
            let end = block + bytes / u64::from(self.block_size);
            if self.reallocates || !(block..end).contains(&bad) || self.reassign(bad).is_err() {
                break;
            }
            log::warn!("disk {}: block {bad} was put somewhere else", self.target);
            result = self.transfer(block, bytes, Data::ToTarget(pieces), meanwhile);
        }
        result
    }

    fn reassign(&self, block: u64) -> Result<(), DiskError> {
        let mut list = [0; 12];
        let (flags, length) = match u32::try_from(block) {
            Ok(short) => {
                list[4..8].copy_from_slice(&short.to_be_bytes());
                (0, 8)
            }
            Err(_) => {
                list[4..].copy_from_slice(&block.to_be_bytes());
                (LONG_ADDRESSES, 12)
            }
        };
        list[3] = length as u8 - 4;
        let descriptor = [REASSIGN_BLOCKS, flags, 0, 0, 0, 0];
        let data = &mut Data::ToTarget(&[&list[..length]]);
        self.run(&descriptor, data, TIMEOUT_FLUSH, &mut None).map(|_| ())
    }

    pub(super) fn transfer(
        &self,
        block: u64,
        bytes: u64,
        mut data: Data<'_, '_>,
        meanwhile: &mut Meanwhile<'_>,
    ) -> Result<(), DiskError> {
        let count = (bytes / u64::from(self.block_size)) as u32;
        if count == 0 {
            return Ok(());
        }
        let write = matches!(data, Data::ToTarget(_));
        let [c3, c2, c1, c0] = count.to_be_bytes();
        let moved = if block + u64::from(count) <= 1 << 32 && count <= 0xFFFF {
            let [b3, b2, b1, b0] = (block as u32).to_be_bytes();
            let code = if write { WRITE_10 } else { READ_10 };
            let descriptor = [code, 0, b3, b2, b1, b0, 0, c1, c0, 0];
            self.run(&descriptor, &mut data, TIMEOUT_TRANSFER, meanwhile)?
        } else {
            let code = if write { WRITE_16 } else { READ_16 };
            let mut descriptor = [code, 0, 0, 0, 0, 0, 0, 0, 0, 0, c3, c2, c1, c0, 0, 0];
            descriptor[2..10].copy_from_slice(&block.to_be_bytes());
            self.run(&descriptor, &mut data, TIMEOUT_TRANSFER, meanwhile)?
        };
        if u64::from(moved) == bytes { Ok(()) } else { Err(DiskError::Protocol) }
    }
}
