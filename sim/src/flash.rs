//! The boot flash in memory.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use flash_layout::{ERASE_BLOCK, FLASH_SIZE};

/// Four MiB of NOR flash. Clones share the contents, as a board before and after a reset does.
#[derive(Clone, Debug)]
pub struct Flash(Rc<RefCell<Vec<u8>>>);

impl Default for Flash {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0xFF; FLASH_SIZE as usize])))
    }
}

/// An access outside the flash or not aligned as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError(NorFlashErrorKind);

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

const OUT_OF_BOUNDS: FlashError = FlashError(NorFlashErrorKind::OutOfBounds);

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let flash = self.0.borrow();
        let from =
            flash.get(offset as usize..).and_then(|rest| rest.get(..bytes.len())).ok_or(OUT_OF_BOUNDS)?;
        bytes.copy_from_slice(from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_SIZE as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = ERASE_BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        if !from.is_multiple_of(ERASE_BLOCK) || !to.is_multiple_of(ERASE_BLOCK) {
            return Err(FlashError(NorFlashErrorKind::NotAligned));
        }
        let mut flash = self.0.borrow_mut();
        flash.get_mut(from as usize..to as usize).ok_or(OUT_OF_BOUNDS)?.fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut flash = self.0.borrow_mut();
        let target = flash
            .get_mut(offset as usize..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(OUT_OF_BOUNDS)?;
        for (to, from) in target.iter_mut().zip(bytes) {
            *to &= from;
        }
        Ok(())
    }
}
