//! A disk in memory that takes room only for what was written.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{BlockDevice, Command, DeviceError};

const CHUNK: u64 = 65536;

/// A disk in memory, sparse: chunks never written read as zeros and take no room. Duplicates share what is equal.
pub struct RamDisk {
    blocks: u64,
    block_size: u32,
    chunks: Mutex<BTreeMap<u64, Arc<[u8]>>>,
}

impl RamDisk {
    /// A disk of zeros.
    pub fn new(blocks: u64, block_size: u32) -> Self {
        Self { blocks, block_size, chunks: Mutex::new(BTreeMap::new()) }
    }

    /// A disk with the contents of a disk image, blocks of 512 bytes.
    pub fn from_image(image: &[u8]) -> Self {
        let disk = Self::new(image.len() as u64 / 512, 512);
        for (number, piece) in image.chunks(CHUNK as usize).enumerate() {
            if piece.iter().any(|&byte| byte != 0) {
                disk.poke(number as u64 * CHUNK, piece);
            }
        }
        disk
    }

    /// A second disk with the same contents.
    pub fn duplicate(&self) -> Self {
        let chunks = self.chunks.lock().unwrap().clone();
        Self { blocks: self.blocks, block_size: self.block_size, chunks: Mutex::new(chunks) }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// The contents of the parts that were ever written: (byte offset, bytes) in rising order.
    pub fn for_each_chunk(&self, mut visit: impl FnMut(u64, &[u8])) {
        for (&number, chunk) in self.chunks.lock().unwrap().iter() {
            let start = number * CHUNK;
            let length = CHUNK.min(self.bytes() - start);
            visit(start, &chunk[..length as usize]);
        }
    }

    /// The whole disk as one image; for small disks.
    pub fn image(&self) -> Vec<u8> {
        let mut image = std::vec![0; self.bytes() as usize];
        self.for_each_chunk(|start, bytes| image[start as usize..][..bytes.len()].copy_from_slice(bytes));
        image
    }

    /// Reads at any byte offset.
    pub fn peek(&self, mut offset: u64, mut bytes: &mut [u8]) {
        let chunks = self.chunks.lock().unwrap();
        while !bytes.is_empty() {
            let within = (offset % CHUNK) as usize;
            let length = bytes.len().min(CHUNK as usize - within);
            let (now, later) = bytes.split_at_mut(length);
            match chunks.get(&(offset / CHUNK)) {
                Some(chunk) => now.copy_from_slice(&chunk[within..][..length]),
                None => now.fill(0),
            }
            bytes = later;
            offset += length as u64;
        }
    }

    /// Writes at any byte offset.
    pub fn poke(&self, mut offset: u64, mut bytes: &[u8]) {
        let mut chunks = self.chunks.lock().unwrap();
        while !bytes.is_empty() {
            let within = (offset % CHUNK) as usize;
            let length = bytes.len().min(CHUNK as usize - within);
            let chunk = chunks.entry(offset / CHUNK).or_insert_with(|| std::vec![0; CHUNK as usize].into());
            Arc::make_mut(chunk)[within..][..length].copy_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            offset += length as u64;
        }
    }

    fn carry_out(&self, command: Command<'_, '_>) -> Result<(), DeviceError> {
        let size = u64::from(self.block_size);
        let Some((block, bytes)) = command.range() else { return Ok(()) };
        if bytes % size != 0 {
            return Err(DeviceError::Misaligned);
        }
        if block.checked_add(bytes / size).is_none_or(|end| end > self.blocks) {
            return Err(DeviceError::OutOfRange);
        }
        let mut offset = block * size;
        match command {
            Command::Read { buffers, .. } => {
                for buffer in buffers {
                    self.peek(offset, buffer);
                    offset += buffer.len() as u64;
                }
            }
            Command::Write { buffers, .. } => {
                for buffer in buffers {
                    self.poke(offset, buffer);
                    offset += buffer.len() as u64;
                }
            }
            Command::Flush => (),
        }
        Ok(())
    }
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let result = self.carry_out(command);
        meanwhile();
        result
    }
}
