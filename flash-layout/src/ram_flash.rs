//! NOR flash in memory, for tests: power can be cut after any step.

use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamFlashError {
    /// The steps that [`RamFlash::cut_after`] allowed are used up.
    PowerCut,
    /// A bit would have had to go from 0 to 1.
    NotErased,
    /// Outside the flash, or not on a boundary.
    Bounds,
}

impl NorFlashError for RamFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Bounds => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// Bytes that behave as NOR flash. A step is four bytes programmed, or a quarter of a block erased.
#[derive(Clone, Debug)]
pub struct RamFlash {
    /// What it holds.
    pub bytes: Vec<u8>,
    steps_left: Option<u32>,
}

impl RamFlash {
    /// All of the board's flash.
    pub fn erased() -> Self {
        Self::of_length(crate::FLASH_SIZE)
    }

    /// So many bytes, all erased.
    pub fn of_length(length: u32) -> Self {
        Self { bytes: vec![0xFF; length as usize], steps_left: None }
    }

    /// Lets `steps` more steps happen; the next fails, and all after it.
    pub fn cut_after(&mut self, steps: u32) {
        self.steps_left = Some(steps);
    }

    /// Power is back.
    pub fn restore(&mut self) {
        self.steps_left = None;
    }

    fn step(&mut self) -> Result<(), RamFlashError> {
        match &mut self.steps_left {
            Some(0) => Err(RamFlashError::PowerCut),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl ErrorType for RamFlash {
    type Error = RamFlashError;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let offset = offset as usize;
        if !offset.is_multiple_of(Self::READ_SIZE) || !bytes.len().is_multiple_of(Self::READ_SIZE) {
            return Err(RamFlashError::Bounds);
        }
        bytes.copy_from_slice(self.bytes.get(offset..offset + bytes.len()).ok_or(RamFlashError::Bounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = crate::ERASE_BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        if [from, to].iter().any(|edge| !edge.is_multiple_of(crate::ERASE_BLOCK))
            || to as usize > self.bytes.len()
        {
            return Err(RamFlashError::Bounds);
        }
        // From the end: a cut erase leaves the start of the block, where the headers are, as it was.
        for quarter in (from..to).step_by(Self::ERASE_SIZE / 4).rev() {
            self.step()?;
            self.bytes[quarter as usize..quarter as usize + Self::ERASE_SIZE / 4].fill(0xFF);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let start = offset as usize;
        if !start.is_multiple_of(4)
            || !bytes.len().is_multiple_of(4)
            || start + bytes.len() > self.bytes.len()
        {
            return Err(RamFlashError::Bounds);
        }
        for (word, new) in bytes.chunks(4).enumerate() {
            self.step()?;
            for (cell, bits) in self.bytes[start + word * 4..].iter_mut().zip(new) {
                if !*cell & bits != 0 {
                    return Err(RamFlashError::NotErased);
                }
                *cell &= bits;
            }
        }
        Ok(())
    }
}
