//! The boot flash through its writable window, as NOR: an erase sets a block to ones, a program only clears bits.
//!
//! On the emulated board the window is the memory of an `ivshmem-plain` card whose backing file is also the boot ROM
//! (PCI 1af4:1110, BAR 2). The rules of NOR flash are kept here, so that nothing above learns to rely on more.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use crate::Registers;

/// PCI vendor identification of the card.
pub const VENDOR: u16 = 0x1AF4;
/// PCI device identification of the card.
pub const DEVICE: u16 = 0x1110;
/// The base address register of the window.
pub const WINDOW: u8 = 2;

const ERASE_BLOCK: u32 = 0x1_0000;

/// Why the flash refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// The range leaves the flash.
    OutOfBounds,
    /// An erase that is not of whole blocks.
    NotAligned,
    /// What was written is not what is read back: a program over bits that were cleared before.
    NotErased,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::NotErased => NorFlashErrorKind::Other,
        }
    }
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        match kind {
            NorFlashErrorKind::OutOfBounds => Self::OutOfBounds,
            _ => Self::NotAligned,
        }
    }
}

/// The flash behind a window of registers.
pub struct Flash<R> {
    registers: R,
    capacity: u32,
}

impl<R: Registers> Flash<R> {
    /// The flash of `capacity` bytes (whole erase blocks) whose window `registers` is.
    pub const fn new(registers: R, capacity: u32) -> Self {
        Self { registers, capacity }
    }
}

impl<R: Registers> ErrorType for Flash<R> {
    type Error = FlashError;
}

impl<R: Registers> ReadNorFlash for Flash<R> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check_read(&*self, offset, bytes.len())?;
        let unaligned = (offset.wrapping_neg() & 3) as usize;
        let (head, body) = bytes.split_at_mut(unaligned.min(bytes.len()));
        let mut place = offset as usize;
        for byte in head {
            *byte = self.registers.read8(place);
            place += 1;
        }
        for chunk in body.chunks_mut(4) {
            if let Some(four) = chunk.first_chunk_mut() {
                *four = self.registers.read32(place).to_le_bytes();
            } else {
                for (byte, place) in chunk.iter_mut().zip(place..) {
                    *byte = self.registers.read8(place);
                }
            }
            place += 4;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.capacity as usize
    }
}

impl<R: Registers> NorFlash for Flash<R> {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = ERASE_BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        check_erase(&*self, from, to)?;
        for place in (from as usize..to as usize).step_by(4) {
            self.registers.write32(place, 0xFFFF_FFFF);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check_write(&*self, offset, bytes.len())?;
        let mut kept = true;
        for (place, &byte) in (offset as usize..).zip(bytes) {
            let before = self.registers.read8(place);
            self.registers.write8(place, before & byte);
            kept &= before & byte == byte;
        }
        if kept { Ok(()) } else { Err(FlashError::NotErased) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::vec;
    use std::vec::Vec;

    struct Window(RefCell<Vec<u8>>);

    impl Registers for &Window {
        fn read8(&self, offset: usize) -> u8 {
            self.0.borrow()[offset]
        }
        fn read16(&self, offset: usize) -> u16 {
            u16::from_le_bytes(self.0.borrow()[offset..offset + 2].try_into().unwrap())
        }
        fn read32(&self, offset: usize) -> u32 {
            assert!(offset.is_multiple_of(4));
            u32::from_le_bytes(self.0.borrow()[offset..offset + 4].try_into().unwrap())
        }
        fn write8(&self, offset: usize, value: u8) {
            self.0.borrow_mut()[offset] = value;
        }
        fn write16(&self, offset: usize, value: u16) {
            self.0.borrow_mut()[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        }
        fn write32(&self, offset: usize, value: u32) {
            self.0.borrow_mut()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
    }

    #[test]
    fn behaves_as_nor() {
        let window = Window(RefCell::new(vec![0; 0x2_0000]));
        let mut flash = Flash::new(&window, 0x2_0000);
        flash.erase(0x1_0000, 0x2_0000).unwrap();
        assert_eq!(window.0.borrow()[0xFFFF], 0);
        assert!(window.0.borrow()[0x1_0000..].iter().all(|&byte| byte == 0xFF));
        flash.write(0x1_0003, b"configuration").unwrap();
        let mut bytes = [0; 20];
        flash.read(0x1_0001, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\xFF\xFFconfiguration\xFF\xFF\xFF\xFF\xFF");
        assert_eq!(flash.write(0x1_0003, b"C"), Ok(()), "only clears bits");
        assert_eq!(flash.write(0x1_0003, b"c"), Err(FlashError::NotErased));
        flash.read(0x1_0003, &mut bytes[..1]).unwrap();
        assert_eq!(bytes[0], b'C');
    }

    #[test]
    fn refuses_what_leaves_it() {
        let window = Window(RefCell::new(vec![0; 0x1_0000]));
        let mut flash = Flash::new(&window, 0x1_0000);
        assert_eq!(flash.read(0xFFFF, &mut [0; 2]), Err(FlashError::OutOfBounds));
        assert_eq!(flash.write(u32::MAX, &[0; 2]), Err(FlashError::OutOfBounds));
        assert_eq!(flash.erase(0, 0x8000), Err(FlashError::NotAligned));
        assert_eq!(flash.erase(0, 0x2_0000), Err(FlashError::OutOfBounds));
        assert_eq!(flash.capacity(), 0x1_0000);
    }
}
